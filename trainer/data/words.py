"""Comments as tokens: the words of a vocabulary, and <unk> for all others."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from app.models.manifest import SPECIAL_WORDS

BOS, EOS, UNK = (SPECIAL_WORDS.index(word) for word in ("<bos>", "<eos>", "<unk>"))


def split_words(text: str) -> tuple[str, ...]:
    """In lower case, without punctuation, as people's captions are compared. A Man's dog! -> a man's dog"""
    return tuple(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower()))


def learn_vocabulary(captions: Iterable[Sequence[str]], least_count: int) -> tuple[str, ...]:
    """The special words, then those that occur at least `least_count` times, the most frequent first."""
    counts = Counter(word for words in captions for word in words)
    kept = [word for word, count in counts.items() if count >= least_count]
    return (*SPECIAL_WORDS, *sorted(kept, key=lambda word: (-counts[word], word)))


class Tokens:
    """Words to numbers and back."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = vocabulary
        self.numbers = {word: number for number, word in enumerate(vocabulary)}

    def encode(self, words: Sequence[str]) -> list[int]:
        """From <bos> to <eos>."""
        return [BOS, *(self.numbers.get(word, UNK) for word in words), EOS]

    def decode(self, tokens: Sequence[int]) -> tuple[str, ...]:
        """Up to the first <eos>."""
        ends = tokens.index(EOS) if EOS in tokens else None
        return tuple(self.vocabulary[token] for token in tokens[:ends])
