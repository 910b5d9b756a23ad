"""Words to text."""

from collections.abc import Sequence

MARKS = frozenset(",;.:!?")
ENDS = frozenset(".!?")


def sentence(words: Sequence[str]) -> str:
    """The words as they are written: no space before a punctuation mark, capitals where a sentence begins.

    a cut at 4.2 s ; it ends . -> A cut at 4.2 s; it ends.
    """
    text = ""
    begins = True
    for word in words:
        shown = word[:1].upper() + word[1:] if begins else word
        text += shown if not text or word in MARKS else f" {shown}"
        begins = word in ENDS
    return text


def shifted(words: Sequence[str], seconds: float) -> list[str]:
    """The words with `seconds` added to those that are numbers, each with as many digits as it had.

    a cut at 4.2 s, 8.0 -> a cut at 12.2 s
    """
    return [_added(word, seconds) if word[0].isdigit() else word for word in words]


def _added(word: str, seconds: float) -> str:
    _, _, digits = word.partition(".")
    return f"{float(word) + seconds:.{len(digits)}f}"
