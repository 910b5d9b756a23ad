"""By hand: every expected number is worked out beside it."""

import math

import pytest

from trainer.caption_metrics import caption_metrics, cider_d, rouge_l

CAT, DOG = ["the", "cat", "sat"], ["a", "dog", "ran", "fast"]


def test_what_is_said_word_for_word_has_the_highest_marks() -> None:
    sentences = [["a", "man", "is", "playing", "a", "guitar"], ["the", "dog", "runs", "after", "a", "red", "ball"]]
    found = caption_metrics(sentences, [[one] for one in sentences])
    assert found["exact_match"] == found["bleu_4"] == found["rouge_l"] == pytest.approx(1.0)
    assert found["cider_d"] == pytest.approx(10.0)


def test_exact_match_is_with_any_reference() -> None:
    assert caption_metrics([CAT, DOG], [[DOG, CAT], [CAT]])["exact_match"] == 0.5


def test_bleu_is_of_the_whole_set_with_clipped_counts_and_brevity() -> None:
    # 1- to 4-grams in common with the reference: 4/4, 3/3, 2/2, 1/1; 4 words for 5: exp(1 - 5/4).
    found = caption_metrics([list("abcd")], [[list("abcde")]])
    assert found["bleu_4"] == pytest.approx(math.exp(-0.25))


def test_rouge_is_by_the_longest_common_subsequence() -> None:
    # "the sat" of 3 words and of 5: precision 2/3, recall 2/5, beta 1.2.
    expected = 2.44 * (2 / 3) * (2 / 5) / (2 / 5 + 1.44 * 2 / 3)
    assert rouge_l(["the", "dog", "sat"], [["the", "cat", "then", "sat", "down"]]) == pytest.approx(expected)
    assert rouge_l(["x"], [["y"]]) == 0.0
    assert rouge_l([], [["y"]]) == 0.0


def test_rouge_takes_the_best_of_each() -> None:
    # Precision 1 by the first, 2/2; recall 1 by the second, 1/1.
    assert rouge_l(["a", "b"], [["a", "b", "c", "d"], ["a"]]) == pytest.approx(1.0)


def test_cider_of_two_videos() -> None:
    # Weights are log(2/1) for words of one video, 0 for "x", which both have. The comment on the first shares "a" only:
    # 1-grams: comment (a, c), reference (a, b), each weight log 2; c is in no reference: log(2/max(1, 0)) = log 2.
    # Cosine 1/2. 2-grams, "x a"/"a c" against "x a"/"a b": cosine 1/2. 3-grams: nothing in common, 4-grams: none.
    # The second comment is its reference: 1 for n = 1, 2, 3, and 0 for n = 4, of which it has none.
    comments = [["x", "a", "c"], ["x", "d", "e"]]
    references = [[["x", "a", "b"]], [["x", "d", "e"]]]
    expected = 10 * ((0.5 + 0.5) / 4 + 3 / 4) / 2
    assert cider_d(comments, references) == pytest.approx(expected)


def test_cider_loses_by_length_and_by_repetition() -> None:
    references = [[["a", "b", "c", "d", "e", "f"]], [["g", "h", "i", "j"]]]
    whole = cider_d([["a", "b", "c", "d", "e", "f"], []], references)
    longer = cider_d([["a", "b", "c", "d", "e", "f", "f", "f", "f"], []], references)
    assert 0 < longer < whole * math.exp(-(3**2) / 72) + 1e-9  # words that are repeated are clipped besides


def test_cider_is_the_mean_over_references() -> None:
    others = [[["g", "h", "i", "j"]], [["k", "l", "m", "n"]]]
    one = cider_d([["a", "b", "c", "d"], [], []], [[["a", "b", "c", "d"]], *others])
    two = cider_d([["a", "b", "c", "d"], [], []], [[["a", "b", "c", "d"], ["o", "p", "q", "r"]], *others])
    assert two == pytest.approx(one / 2)
