import pytest

from trainer.data.sentences import Event, Facts, Move, time_word, to_facts, to_words, vocabulary

STORY = (Move(("pan-left",)), Move(("static",)), Event("cut", 4.18), Event("fade-out"))
SENTENCE = (
    "a dark , busy picture ; the camera pans left , then holds still ; a cut at 4.2 s ; it ends in a fade to black ."
)
ALL = (
    Facts(None, "plain", (Event("fade-in"), Move(("zoom-out", "roll")), Event("freeze", 1.0), Move(("static",)))),
    Facts("bright", None, (Move(("shake",)), Event("dissolve", 3.0), Move(("tilt-down",)), Event("black", 5.0))),
    Facts(None, None, (Move(("pan-right", "tilt-up")), Event("fade", 0.0), Event("cut", 0.5), Move(("zoom-in",)))),
)


def test_a_sentence_says_all_facts_in_order() -> None:
    assert " ".join(to_words(Facts("dark", "busy", STORY))) == SENTENCE


@pytest.mark.parametrize("facts", ALL)
def test_a_sentence_gives_its_facts_back(facts: Facts) -> None:
    assert to_facts(to_words(facts)) == facts


def test_times_come_back_as_they_were_told() -> None:
    facts = to_facts(SENTENCE.split())
    assert facts
    assert facts.story[2] == Event("cut", 4.2)


@pytest.mark.parametrize(
    ("seconds", "edit", "word"),
    [(4.18, "cut", "4.2"), (0.04, "cut", "0.0"), (2.5, "dissolve", "3"), (2.49, "freeze", "2"), (0.4, "fade", "0")],
)
def test_moments_are_rounded_as_far_as_they_can_be_told(seconds: float, edit: str, word: str) -> None:
    assert time_word(seconds, edit) == word  # type: ignore[arg-type]  # of the literal


@pytest.mark.parametrize("facts", [*ALL, Facts("dark", "busy", STORY)])
def test_every_word_is_in_the_vocabulary(facts: Facts) -> None:
    assert set(to_words(facts)) <= set(vocabulary(8))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "the camera",
        "the camera dances .",
        "the camera pans left",
        "the camera pans left ; ; a cut at 4.2 s .",
        "a cut at 4.25 s .",
        "a cut at noon s .",
        "a cut at 4.2 .",
        "a dissolve around 4.2 s .",
        "a busy , dark picture ; the camera rolls .",
    ],
)
def test_what_is_no_sentence_of_ours_says_nothing(text: str) -> None:
    assert to_facts(text.split()) is None
