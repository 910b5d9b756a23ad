import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from app.pipelines.overlapping import OverlappingSegmenter
from app.pipelines.segments import OpenSegment, RuleOverrides, Segment, Segmenter, SegmentRules

RATE = 4.0  # steps per second
RULES = SegmentRules(smoothing_seconds=1.0, margin=0.1, shortest_seconds=1.0)
RAW = SegmentRules(smoothing_seconds=0.0, margin=0.0, shortest_seconds=0.0)
A, B, C = np.eye(3)


def segments(scores: Sequence[np.ndarray], rules: SegmentRules = RULES) -> list[Segment]:
    segmenter = Segmenter(("a", "b", "c"), RATE, rules)
    closed = [segment for step, row in enumerate(scores) for segment in segmenter.push(step / RATE, row)]
    return [*closed, *segmenter.finish(len(scores) / RATE)]


def spans(found: list[Segment]) -> list[tuple[float, float, str]]:
    return [(segment.start_seconds, segment.end_seconds, segment.label) for segment in found]


def test_only_what_is_asked_for_takes_the_place_of_a_rule() -> None:
    assert RuleOverrides().over(RULES) == RULES
    assert RuleOverrides(margin=0.0).over(RULES) == SegmentRules(1.0, 0.0, 1.0)


def test_one_label_is_one_segment() -> None:
    assert spans(segments([A] * 12)) == [(0.0, 3.0, "a")]


def test_clear_changes_are_found_where_they_are() -> None:
    assert spans(segments([A] * 12 + [B] * 12 + [C] * 12)) == [(0.0, 3.0, "a"), (3.0, 6.0, "b"), (6.0, 9.0, "c")]


def test_without_rules_every_step_counts() -> None:
    assert spans(segments([A, B, B, A], RAW)) == [(0.0, 0.25, "a"), (0.25, 0.75, "b"), (0.75, 1.0, "a")]


def test_a_stretch_shorter_than_the_shortest_stays_with_the_label_before() -> None:
    assert spans(segments([A] * 12 + [B] * 2 + [A] * 12)) == [(0.0, 6.5, "a")]
    assert spans(segments([A] * 12 + [B] * 2)) == [(0.0, 3.5, "a")]


def test_a_lead_below_the_margin_changes_nothing() -> None:
    barely = np.array([0.48, 0.52, 0.0])
    assert spans(segments([A] * 12 + [barely] * 12)) == [(0.0, 6.0, "a")]


def test_a_lead_above_the_margin_may_shrink_before_the_label_stands() -> None:
    barely = np.array([0.48, 0.52, 0.0])
    rules = replace(RULES, smoothing_seconds=0.0)
    assert spans(segments([A] * 12 + [B] + [barely] * 11, rules)) == [(0.0, 3.0, "a"), (3.0, 6.0, "b")]


def test_flicker_between_two_newcomers_is_no_change() -> None:
    flicker = [B, B, C, C] * 3
    rules = SegmentRules(smoothing_seconds=0.0, margin=0.1, shortest_seconds=1.0)
    assert spans(segments([A] * 8 + flicker, rules)) == [(0.0, 5.0, "a")]


def test_score_is_the_mean_of_the_raw_scores() -> None:
    rows = [np.array([0.9, 0.1, 0.0]), np.array([0.7, 0.3, 0.0])] * 4
    (segment,) = segments(rows)
    assert segment.score == pytest.approx(0.8)


@pytest.mark.parametrize("seed", range(5))
def test_segments_tile_the_time_without_gaps_or_overlaps(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = np.repeat(random.dirichlet([0.3] * 3, size=40), random.integers(1, 9, size=40), axis=0)
    found = segments(list(rows))
    assert found[0].start_seconds == 0
    assert found[-1].end_seconds == len(rows) / RATE
    for before, after in itertools.pairwise(found):
        assert before.end_seconds == after.start_seconds
        assert before.label != after.label
    assert all(segment.end_seconds - segment.start_seconds >= RULES.shortest_seconds for segment in found[:-1])


def test_no_steps_give_no_segments() -> None:
    assert segments([]) == []


def test_labels_that_do_not_compete_may_overlap() -> None:
    segmenter = OverlappingSegmenter(("pan", "zoom"), RATE, RULES)
    rows = [[0.9, 0.1]] * 8 + [[0.9, 0.9]] * 8 + [[0.1, 0.9]] * 8
    closed = [found for step, row in enumerate(rows) for found in segmenter.push(step / RATE, np.array(row))]
    found = [*closed, *segmenter.finish(6.0)]
    assert sorted(spans(found)) == [(0.0, 4.0, "pan"), (2.0, 6.0, "zoom")]


@pytest.mark.parametrize("kind", [Segmenter, OverlappingSegmenter])
def test_saved_anywhere_and_restored_it_goes_on_as_if_nothing_had_been(kind: type[Segmenter]) -> None:
    labels, random = ("a", "b", "c"), np.random.default_rng(0)
    steady = np.repeat(np.eye(3)[random.integers(0, 3, 12)], 6, axis=0)  # (72, 3)
    scores = list(0.8 * steady + 0.2 * random.random((72, 3)))

    def run(saved_before: int | None) -> list[Segment]:
        segmenter = kind(labels, RATE, RULES)
        found: list[Segment] = []
        for step, row in enumerate(scores):
            if step == saved_before:
                saved = segmenter.save()
                segmenter = kind(labels, RATE, RULES)
                segmenter.restore(iter(saved))
            found += segmenter.push(step / RATE, row)
        return [*found, *segmenter.finish(len(scores) / RATE)]

    whole = run(None)
    assert len(whole) > 3
    for step in range(len(scores)):
        assert run(step) == whole


@pytest.mark.parametrize("kind", [Segmenter, OverlappingSegmenter])
@pytest.mark.parametrize(("before", "after"), [(2.0, 1.0), (1.0, 2.0), (1.0, 0.0), (0.0, 1.0)])
def test_restored_under_other_rules_it_comes_to_what_those_say(
    kind: type[Segmenter], before: float, after: float
) -> None:
    labels, random, rules = ("a", "b", "c"), np.random.default_rng(0), replace(RULES, smoothing_seconds=after)
    steady = np.repeat(np.eye(3)[random.integers(0, 3, 30)], 6, axis=0)  # (180, 3)
    rows = list(0.8 * steady + 0.2 * random.random((180, 3)))
    saved, expected = kind(labels, RATE, replace(RULES, smoothing_seconds=before)), kind(labels, RATE, rules)
    for step, row in enumerate(rows[:40]):
        list(saved.push(step / RATE, row))
        list(expected.push(step / RATE, row))
    restored = kind(labels, RATE, rules)
    restored.restore(iter(saved.save()))

    late: list[Segment] = []
    for step, row in enumerate(rows[40:], 40):
        if step > 50:
            np.testing.assert_allclose(restored.smoothed(row), expected.smoothed(row), rtol=0, atol=1e-12)
        found, wanted = (list(one.push(step / RATE, row)) for one in (restored, expected))
        if step > 70:  # both have closed the segment that was open
            assert found == wanted
            assert len(restored.save()) == len(expected.save())
            late += found
    assert len(late) > 3


def test_what_is_open_is_known_before_it_ends() -> None:
    segmenter = Segmenter(("a", "b", "c"), RATE, RULES)
    assert segmenter.open_segments == ()
    closed = [segment for step in range(16) for segment in segmenter.push(step / RATE, A if step < 6 else B)]
    assert spans(closed) == [(0.0, 1.5, "a")]
    assert segmenter.open_segments == (OpenSegment(1.5, "b"),)


def test_smoothed_is_the_mean_of_what_has_come() -> None:
    segmenter = Segmenter(("a", "b", "c"), RATE, RULES)
    found = []
    for step in range(8):
        row = A if step < 4 else B
        found.append(segmenter.smoothed(row)[0])
        list(segmenter.push(step / RATE, row))
    assert found == [1, 1, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5]  # of five steps: one second, centred


def test_labels_that_come_and_go_on_their_own_are_smoothed_and_open_on_their_own() -> None:
    segmenter = OverlappingSegmenter(("a", "b"), RATE, RAW)
    for step in range(4):
        assert segmenter.smoothed(np.array([0.9, 0.8])).tolist() == pytest.approx([0.9, 0.8])
        list(segmenter.push(step / RATE, np.array([0.9, 0.8])))
    assert segmenter.open_segments == (OpenSegment(0.0, "a"), OpenSegment(0.0, "b"))


def test_a_label_with_a_shortest_length_of_its_own_is_not_smoothed_and_others_keep_to_the_rules() -> None:
    segmenter = OverlappingSegmenter(("pan", "cut", "freeze"), RATE, RULES, {"cut": 0.0, "freeze": 0.5})
    rows = [np.array([0.1, 0.1, 0.1])] * 8
    rows[3] = np.array([0.9, 0.9, 0.9])
    closed = [segment for step, row in enumerate(rows) for segment in segmenter.push(step / RATE, row)]

    assert [*closed, *segmenter.finish(2.0)] == [Segment(0.75, 1.0, "cut", pytest.approx(0.9))]


def test_a_moment_ends_what_is_not_smoothed_but_nothing_else() -> None:
    segmenter = OverlappingSegmenter(("pan", "cut", "freeze"), RATE, RAW, {"cut": 0.0, "freeze": 0.5})
    rows = np.array([[0.9, 0.1, 0.9]] * 12)
    rows[4] = (0.9, 0.9, 0.1)
    rows[8] = (0.9, 0.1, 0.1)  # nothing happens: too short to end a freeze
    closed = [segment for step, row in enumerate(rows) for segment in segmenter.push(step / RATE, row)]

    assert [(one.label, one.start_seconds, one.end_seconds) for one in (*closed, *segmenter.finish(3.0))] == [
        ("freeze", 0.0, 1.0),
        ("cut", 1.0, 1.25),
        ("pan", 0.0, 3.0),
        ("freeze", 1.25, 3.0),
    ]


def test_what_a_moment_ends_too_early_was_none() -> None:
    segmenter = OverlappingSegmenter(("cut", "freeze"), RATE, RAW, {"cut": 0.0, "freeze": 0.5})
    rows = np.array([[0.1, 0.9], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]])
    closed = [segment for step, row in enumerate(rows) for segment in segmenter.push(step / RATE, row)]

    found = [(one.label, one.start_seconds, one.end_seconds) for one in (*closed, *segmenter.finish(1.25))]
    assert found == [("cut", 0.25, 0.5), ("freeze", 0.5, 1.25)]
