import dataclasses

import numpy as np
import pytest

from trainer.data.described_scenes import DESCRIBED_STYLE, Script, describe, draw_described, look, measure, tell
from trainer.data.filmed_scenes import FilmedScene
from trainer.data.scene_labels import CUT, DISSOLVE, FREEZE, LABELS, MOTIONS, STATIC
from trainer.data.sentences import Event, Facts, Move, to_facts, to_words
from trainer.networks.camera_steps import CameraSteps
from trainer.networks.measured_steps import MeasuredSteps
from trainer.tasks.scene_comments import MIRRORS, facts_of, mirrored

RATE = 12.0
STILL, PAN, ZOOM = Move(("static",)), Move(("pan-left",)), Move(("zoom-in",))


def script(num_steps: int = 48) -> Script:
    """A camera that holds still, everything certain."""
    holds, scored = np.zeros((num_steps, len(LABELS)), bool), np.ones((num_steps, len(LABELS)), bool)
    holds[:, STATIC] = True
    nothing = np.zeros(num_steps, bool)
    return Script(holds, scored, np.zeros(num_steps, np.int64), np.ones(num_steps), nothing, nothing.copy())


def moving(of: Script, label: str, start: int, end: int) -> Script:
    of.holds[start:end, : len(MOTIONS)] = False
    of.holds[start:end, LABELS.index(label)] = True
    return of


def doubted(of: Script, start: int, end: int) -> Script:
    of.scored[start:end, : len(MOTIONS)] = False
    return of


def within_the_fade_to_black(cut: int | None = None, dissolve: tuple[int, int] = (0, 0)) -> Script:
    """A last second that fades, and an edit that it swallows, so that nothing ends as it is said to."""
    one = script()
    one.light[40:] = np.linspace(0.9, 0.0, 8)
    one.changing[40:47] = True
    one.changing[slice(*dissolve)] = True
    if cut is not None:
        one.holds[cut, CUT] = True
    one.shots[44:] = 1
    return doubted(one, min(40, dissolve[0] or 40), 48)


def test_a_motion_is_told_once_however_long() -> None:
    assert tell(script(), RATE) == (STILL,)


def test_one_motion_after_the_other() -> None:
    assert tell(doubted(moving(script(), "pan-left", 20, 48), 18, 23), RATE) == (STILL, PAN)


def test_a_cut_is_told_with_its_first_step_and_what_follows_is_said_again() -> None:
    cut = script()
    cut.holds[27, CUT] = True
    cut.shots[27:] = 1
    assert tell(cut, RATE) == (STILL, Event("cut", 27 / 12), STILL)


def test_a_dissolve_is_told_by_its_middle() -> None:
    one = script()
    one.changing[20:31] = one.holds[20:31, DISSOLVE] = True
    one.shots[25:] = 1
    doubted(one, 20, 31)
    assert tell(one, RATE) == (STILL, Event("dissolve", 25 / 12), STILL)


@pytest.mark.parametrize(
    ("start", "levels", "event"),
    [
        (20, [0.7, 0.3, 0, 0, 0.4, 0.9], Event("fade", 22.5 / 12)),
        (20, [0, 0, 0, 0, 0, 0], Event("black", 22.5 / 12)),
        (0, [0, 0.2, 0.4, 0.6, 0.8, 0.9], Event("fade-in")),
        (42, [0.9, 0.8, 0.6, 0.4, 0.2, 0], Event("fade-out")),
    ],
)
def test_light_that_goes_and_comes(start: int, levels: list[float], event: Event) -> None:
    one = script()
    one.light[start : start + 6] = levels
    one.changing[:] = (one.light > 0) & (one.light < 1)
    story = tell(doubted(one, start, start + 6), RATE)
    assert story
    assert [item for item in story if isinstance(item, Event)] == [event]


def test_a_freeze_is_told_from_the_frame_that_is_held() -> None:
    one = script()
    one.held[25:48] = one.holds[25:48, FREEZE] = True
    assert tell(one, RATE) == (STILL, Event("freeze", 2.0))


def test_what_goes_on_after_a_freeze_is_said_again() -> None:
    one = script()
    one.held[15:30] = one.holds[15:30, FREEZE] = True
    assert tell(one, RATE) == (STILL, Event("freeze", 14 / 12), STILL)


@pytest.mark.parametrize(
    "doubtful",
    [
        lambda: doubted(script(), 10, 22),  # no one knows how it moves for a second
        lambda: moving(script(), "pan-left", 20, 24),  # too short to be told, too long to be left out
        lambda: dataclasses.replace(script(), held=np.arange(48) >= 44),  # too short for a freeze
        lambda: dataclasses.replace(script(), light=np.full(48, 0.5)),  # dim from end to end
        lambda: dataclasses.replace(script(), changing=np.arange(48) < 5),  # begins within a dissolve
        lambda: within_the_fade_to_black(cut=45),
        lambda: within_the_fade_to_black(dissolve=(34, 44)),
    ],
)
def test_nothing_is_said_where_something_is_in_doubt(doubtful: object) -> None:
    assert tell(doubtful(), RATE) is None  # type: ignore[operator]


@pytest.mark.parametrize(
    ("luma", "difference", "seen"),
    [
        (0.1, 0.02, ("dark", None)),
        (0.3, 0.01, (None, "plain")),
        (0.6, 0.05, ("bright", "busy")),
        (0.19, 0.02, None),
        (0.3, 0.015, None),
    ],
)
def test_how_it_looks_is_told_away_from_the_borders(luma: float, difference: float, seen: object) -> None:
    assert look(luma, difference) == seen


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, Script, Facts]]:
    """Six scenes of textures."""
    found = [draw_described([], DESCRIBED_STYLE, np.random.default_rng(seed)) for seed in range(6)]
    return [(scene.frames, script, facts) for scene, script, facts in found]


def test_drawn_scenes_have_a_sentence_that_can_be_read_back(drawn: list[tuple[np.ndarray, Script, Facts]]) -> None:
    for frames, happening, facts in drawn:
        assert describe(happening, measure(frames), RATE) == facts
        words = to_words(facts)
        read = to_facts(words)
        assert read
        assert to_words(read) == words
        assert 36 <= len(frames) == len(happening.light) <= 96
    assert len({to_words(facts) for *_, facts in drawn}) > 3


def test_the_same_numbers_draw_the_same_scene(drawn: list[tuple[np.ndarray, Script, Facts]]) -> None:
    _, _, again = draw_described([], DESCRIBED_STYLE, np.random.default_rng(2))
    assert again == drawn[2][2]


def test_a_mirror_turns_words_and_motions_about() -> None:
    happening = moving(script(), "pan-left", 0, 48)
    num_told = CameraSteps.num_told
    size = num_told + 7 * MeasuredSteps.num_of_fit + MeasuredSteps.num_others
    steps = np.tile(np.arange(1, size + 1, dtype=np.float32), (48, 1))
    steps[:, -2:] = 0.3 * MeasuredSteps.light_scale, 0.02 * MeasuredSteps.detail_scale
    scene = FilmedScene(steps, happening)
    turned = mirrored(scene, *MIRRORS[0])

    facts = facts_of(turned, RATE)
    assert facts
    assert facts.story == (Move(("pan-right",)),)
    changed = np.flatnonzero((turned.steps != steps).any(axis=0))
    pans = [LABELS.index("pan-left"), LABELS.index("pan-right")]
    fits = [num_told + 6 * fit + motion for fit in range(7) for motion in (0, 3)]
    assert changed.tolist() == sorted(pans + fits)
    np.testing.assert_array_equal(turned.steps[:, pans], steps[:, pans[::-1]])
    np.testing.assert_array_equal(mirrored(turned, *MIRRORS[0]).steps, steps)
