import pytest

from app.pipelines.sentences import sentence, shifted


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("a cut at 4.2 s ; it ends .", "A cut at 4.2 s; it ends."),
        ("the camera pans left , then holds still .", "The camera pans left, then holds still."),
        ("one . two ! three", "One. Two! Three"),
        ("", ""),
        ("ünder", "Ünder"),
    ],
)
def test_words_are_written_as_sentences(words: str, text: str) -> None:
    assert sentence(words.split()) == text


def test_moments_are_those_of_the_video() -> None:
    assert shifted(["a", "cut", "at", "4.2", "s", ";", "a", "dissolve", "around", "6", "s", "."], 8.0) == (
        ["a", "cut", "at", "12.2", "s", ";", "a", "dissolve", "around", "14", "s", "."]
    )
