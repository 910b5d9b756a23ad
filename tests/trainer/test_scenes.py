import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.data.camera_path import FINE_RATE, PathStyle, draw_path
from trainer.data.montage import MontageStyle, draw_montage
from trainer.data.picture_faults import FaultStyle, compress
from trainer.data.scene_labels import BLACK, CUT, DISSOLVE, EDITS, FREEZE, LABELS, MOTIONS, STATIC, describe_motion
from trainer.data.scenes import Scene, SceneStyle, draw_scene
from trainer.data.shots import Shot, ShotStyle, place_views, render
from trainer.data.textures import draw_texture
from trainer.networks.picture_motion import LucasKanade

WIDTH, HEIGHT = 64, 48
CLEAN = FaultStyle(
    gain=(0.999, 1.0), dark_share=0, drift_share=0, bars_share=0, caption_share=0, grey_share=0, compressed_share=0
)
QUIET = MontageStyle(frame_rate=(59.0, 60.0), num_joins=(1.0,), freeze_share=0, still_share=0, flash_share=0)
STYLE = SceneStyle(width=WIDTH, height=HEIGHT, faults=CLEAN, montage=QUIET, texture_share=0.0)


@pytest.fixture(scope="module")
def stills() -> list[NDArray[np.uint8]]:
    return [draw_texture(192, 144, np.random.default_rng(seed)) for seed in range(4)]


def scenes(stills: list[NDArray[np.uint8]], montage: MontageStyle, count: int = 12) -> list[Scene]:
    style = dataclasses.replace(STYLE, montage=montage)
    return [draw_scene(stills, 36, style, np.random.default_rng(seed)) for seed in range(count)]


def differences(scene: Scene) -> NDArray[np.float64]:
    """(T - 1,): mean grey levels from each frame to the next."""
    return np.abs(np.diff(scene.frames.astype(float), axis=0)).mean(axis=(1, 2, 3))


def filmed(still: NDArray[np.uint8], speeds: tuple[float, float, float, float]) -> torch.Tensor:
    """(2, 3, H, W): a view of a still, and the same 1/40 s later."""
    path = np.arange(2 * int(FINE_RATE))[:, None] / FINE_RATE * np.array(speeds)
    style = ShotStyle(view=(0.6, 0.61))
    background = torch.from_numpy(still.astype(np.float32).transpose(2, 0, 1)) / 255
    view = place_views(path, 0.75, style, np.random.default_rng(0))
    return render(Shot(path, view, background, (), False), np.array([0.5, 0.525]), 128, 96)


def flow(pictures: torch.Tensor) -> torch.Tensor:
    """(2, rows, columns): how the picture moves, in pixels, by the level that sees motions of some pixels best."""
    grey = pictures.mean(dim=1, keepdim=True)
    measured = LucasKanade(96, 128, 4, 6, 8)(grey[:1], grey[1:]).reshape(4, 3, 6, 8)
    return measured[1, :2] * 2


def test_the_picture_moves_against_the_camera(stills: list[NDArray[np.uint8]]) -> None:
    # 0.24 picture widths a second are 0.77 pixels of 128 in 1/40 s. Least squares fall short by up to a third.
    right, down = flow(filmed(stills[0], (0.24, 0.0, 0.0, 0.0))).flatten(1).median(dim=1).values
    assert -0.85 < right < -0.51
    assert abs(down) < 0.1
    right, down = flow(filmed(stills[0], (0.0, 0.24, 0.0, 0.0))).flatten(1).median(dim=1).values
    assert -0.64 < down < -0.38  # heights: 0.58 pixels of 96
    assert abs(right) < 0.1


def test_zooming_in_moves_the_edges_outwards_and_rolling_turns_them(stills: list[NDArray[np.uint8]]) -> None:
    right, down = flow(filmed(stills[0], (0.0, 0.0, 0.6, 0.0)))
    assert right[:, -2:].median() > 0.3 > -0.3 > right[:, :2].median()
    assert down[-2:].median() > 0.2 > -0.2 > down[:2].median()
    right, down = flow(filmed(stills[0], (0.0, 0.0, 0.0, 0.6)))  # the view turns clockwise, the picture the other way
    assert down[:, :2].median() > 0.3 > -0.3 > down[:, -2:].median()
    assert right[:2].median() < -0.2 < 0.2 < right[-2:].median()


def test_the_same_random_numbers_draw_the_same_scene(stills: list[NDArray[np.uint8]]) -> None:
    first, again, other = (draw_scene(stills, 24, SceneStyle(), np.random.default_rng(seed)) for seed in (5, 5, 6))

    assert (first.frames == again.frames).all()
    assert (first.holds == again.holds).all()
    assert (first.frames != other.frames).any()
    assert first.frames.shape == (24, 96, 128, 3)
    assert first.holds.shape == first.scored.shape == (24, len(LABELS))


def test_a_jerk_is_fast_and_short_and_no_cut(stills: list[NDArray[np.uint8]]) -> None:
    style = PathStyle(still_share=1.0, held_share=0, shake_share=0, two_share=0, jerk_share=1.0)
    for seed in range(20):
        speed = np.hypot(*np.diff(draw_path(6.0, style, np.random.default_rng(seed))[:, :2], axis=0).T) * FINE_RATE
        assert 0.5 < speed.max() <= 3.0
        assert 2 <= (speed > 0.01).sum() <= 2 * 0.6 * FINE_RATE

    jerked = dataclasses.replace(STYLE, shot=ShotStyle(path=style))
    for seed in range(6):
        assert not draw_scene(stills, 36, jerked, np.random.default_rng(seed)).holds[:, CUT].any()


def test_it_needs_no_stills() -> None:
    assert draw_scene([], 12, STYLE, np.random.default_rng(0)).frames.std() > 5


def test_a_cut_is_where_the_picture_is_another(stills: list[NDArray[np.uint8]]) -> None:
    style = dataclasses.replace(QUIET, num_joins=(0.0, 1.0), kinds=(("cut", 1.0),))

    for scene in scenes(stills, style):
        (step,) = np.flatnonzero(scene.holds[:, CUT])
        assert differences(scene).argmax() == step - 1
        assert scene.scored[:, CUT].all()


def test_a_dissolve_has_no_cut_in_it_and_its_motion_is_not_scored(stills: list[NDArray[np.uint8]]) -> None:
    style = dataclasses.replace(QUIET, num_joins=(0.0, 1.0), kinds=(("dissolve", 1.0),))

    for scene in scenes(stills, style):
        changing = scene.holds[:, DISSOLVE]
        assert 3 <= changing.sum() <= 20  # 0.3 to 1.6 s
        assert not scene.holds[:, CUT].any()
        assert not scene.scored[changing, : len(MOTIONS)].any()
        assert np.isnan(scene.speed[changing]).all()


def test_a_dissolve_goes_evenly_from_one_light_to_the_other(stills: list[NDArray[np.uint8]]) -> None:
    montage = dataclasses.replace(QUIET, num_joins=(0.0, 1.0), kinds=(("dissolve", 1.0),), still_share=1.0)
    faults = dataclasses.replace(CLEAN, gain=(0.1, 1.0), clean_share=1.0)
    style = dataclasses.replace(STYLE, montage=montage, faults=faults)

    for seed in range(12):
        scene = draw_scene(stills, 36, style, np.random.default_rng(seed))
        changes = differences(scene)[scene.holds[1:, DISSOLVE]]
        assert changes.max() < 1.5 * np.median(changes)


def test_fades_lead_to_black(stills: list[NDArray[np.uint8]]) -> None:
    style = dataclasses.replace(QUIET, num_joins=(0.0, 1.0), kinds=(("fade", 1.0),), black_seconds=(0.5, 0.6))

    for scene in scenes(stills, style):
        black = scene.holds[:, BLACK]
        assert black.sum() >= 5
        assert scene.frames[black].mean() < 14
        assert scene.holds[:, DISSOLVE].any()
        assert not scene.scored[black, : len(MOTIONS)].any()


def test_a_freeze_stands_still_and_nothing_else_does(stills: list[NDArray[np.uint8]]) -> None:
    style = dataclasses.replace(QUIET, freeze_share=1.0)

    num_frozen = 0
    for scene in scenes(stills, style):
        frozen = scene.holds[1:, FREEZE]
        num_frozen += frozen.sum()
        assert (differences(scene)[frozen] == 0).all()
        assert (differences(scene)[scene.scored[1:, FREEZE] & ~frozen] > 0).all()
    assert num_frozen > 50


def test_a_slide_show_is_frozen_but_for_its_cuts(stills: list[NDArray[np.uint8]]) -> None:
    style = dataclasses.replace(QUIET, still_share=1.0, num_joins=(0.0, 0.0, 1.0), kinds=(("cut", 1.0),))
    for scene in scenes(stills, dataclasses.replace(style, frame_rate=(5.0, 60.0))):
        cuts = scene.holds[:, CUT]
        assert cuts.sum() == 2
        assert (differences(scene)[~cuts[1:]] == 0).all()
        frozen = scene.holds[:, FREEZE]
        assert not frozen[cuts].any()
        assert frozen[1:][scene.scored[1:, FREEZE] & ~cuts[1:]].all()
        assert scene.holds[scene.scored[:, STATIC], STATIC].all()


def test_low_frame_rates_are_no_freeze(stills: list[NDArray[np.uint8]]) -> None:
    style = dataclasses.replace(QUIET, frame_rate=(5.0, 5.001))

    for scene in scenes(stills, style, count=3):
        assert (differences(scene) == 0).sum() > 10
        assert scene.scored[:, FREEZE].all()
        assert not scene.holds[:, FREEZE].any()


def test_flashes_are_no_cuts(stills: list[NDArray[np.uint8]]) -> None:
    style = dataclasses.replace(QUIET, flash_share=1.0)

    for scene in scenes(stills, style):
        assert differences(scene).max() > 10
        assert scene.scored[:, CUT].all()
        assert not scene.holds[:, CUT].any()


def test_dark_scenes_are_not_black(stills: list[NDArray[np.uint8]]) -> None:
    style = dataclasses.replace(STYLE, faults=dataclasses.replace(CLEAN, dark_share=1.0))

    for seed in range(12):
        scene = draw_scene(stills, 12, style, np.random.default_rng(seed))
        mean = scene.frames.mean(axis=(1, 2, 3))
        assert not (scene.holds[:, BLACK] & (mean > 14)).any()
        assert scene.scored[mean > 20, : len(MOTIONS)].any(axis=1).all()


def test_speeds_are_those_of_the_labels(stills: list[NDArray[np.uint8]]) -> None:
    """Where a label holds, the speed has its sign."""
    drawn = scenes(stills, QUIET)
    for label, axis, sign in (("pan-right", 0, 1), ("tilt-up", 1, -1), ("zoom-in", 2, 1)):
        column = LABELS.index(label)
        speeds = np.concatenate([one.speed[one.holds[:, column] & one.scored[:, column], axis] for one in drawn])
        assert len(speeds) > 10
        assert (sign * speeds > 0.03).all()
    assert not any(scene.holds[:, -len(EDITS) :].any() for scene in drawn)


def test_compression_keeps_the_frames_in_place(stills: list[NDArray[np.uint8]]) -> None:
    scene = draw_scene(stills, 24, STYLE, np.random.default_rng(2))

    fine, coarse = (compress(scene.frames, 12.0, crf, 12) for crf in (18, 35))

    assert fine.shape == coarse.shape == scene.frames.shape
    errors = [np.abs(frames.astype(float) - scene.frames).mean(axis=(1, 2, 3)) for frames in (fine, coarse)]
    assert errors[0].max() < errors[1].mean() < 25  # each frame is itself: others are further off than any loss


def test_labels_of_a_path_do_not_depend_on_where_it_begins() -> None:
    path = np.cumsum(np.random.default_rng(0).normal(0, 0.01, (48, 4)), axis=0)

    assert (describe_motion(path, 12.0).holds == describe_motion(path + 3.0, 12.0).holds).all()


def test_a_frozen_picture_can_fade(stills: list[NDArray[np.uint8]]) -> None:
    """It is no freeze then: the picture changes at every step."""
    style = dataclasses.replace(
        QUIET, num_joins=(0.0, 1.0), kinds=(("fade", 1.0),), freeze_share=1.0, freeze_seconds=(2.9, 3.0)
    )

    for scene in scenes(stills, style):
        changing = scene.holds[:, DISSOLVE] & scene.scored[:, DISSOLVE]
        assert (differences(scene)[(changing[1:] & changing[:-1])] > 0).all()
        assert not (scene.holds[:, FREEZE] & scene.scored[:, FREEZE] & changing).any()


def test_transitions_do_not_overlap() -> None:
    style = MontageStyle(num_joins=(0.0, 0.0, 1.0), kinds=(("dissolve", 1.0),), frame_rate=(59.0, 60.0))

    for seed in range(20):
        montage = draw_montage(48, 12.0, style, np.random.default_rng(seed))
        shown = montage.shots[:, 0] + (montage.shots[:, 1] - montage.shots[:, 0]) * montage.mix
        assert (np.diff(shown) >= 0).all()
        assert np.diff(shown).max() < 0.7  # 0.3 s are 3.6 steps at least, of halves cut short where room is scarce
