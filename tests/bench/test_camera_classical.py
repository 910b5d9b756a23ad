import dataclasses

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the extra `bench` is not installed")

from bench.camera_classical import classical_answers
from trainer.camera_scores import Answers, count_events, f1_by_label
from trainer.data.montage import MontageStyle
from trainer.data.picture_faults import FaultStyle
from trainer.data.scene_labels import MOTIONS
from trainer.data.scenes import SceneStyle, draw_scene
from trainer.data.shots import ShotStyle
from trainer.data.textures import draw_texture

EASY = SceneStyle(
    width=160,
    height=120,
    shot=ShotStyle(max_objects=0, blur_share=0),
    montage=MontageStyle(frame_rate=(59.0, 60.0), kinds=(("cut", 1.0),), freeze_share=0, flash_share=0),
    faults=FaultStyle(dark_share=0, noise=(0.3, 1.0), caption_share=0, bars_share=0, compressed_share=0),
)


def answers(style: SceneStyle, count: int) -> list[Answers]:
    stills = [draw_texture(192, 144, np.random.default_rng(seed)) for seed in range(6)]
    found = []
    for index in range(count):
        scene = draw_scene(stills, 36, style, np.random.default_rng((1, index)))
        said = classical_answers(scene.frames, style.rate)
        found.append(Answers(str(index), style.rate, said, scene.holds, scene.scored))
    return found


def test_it_agrees_with_the_truth_of_easy_scenes() -> None:
    """Two roads to the same labels: what was drawn, and what tracks of points say. Neither knows of the other."""
    found = answers(EASY, 12)

    by_label = f1_by_label(found, MOTIONS)
    assert np.mean(list(by_label.values())) > 0.8  # 0.9 at most: windows at the ends of shots differ
    assert count_events(found, "cut").recall > 0.8


def test_stillness_is_found_to_be_still() -> None:
    path = dataclasses.replace(EASY.shot.path, still_share=1.0, held_share=0.0, shake_share=0.0)
    still = dataclasses.replace(EASY, shot=dataclasses.replace(EASY.shot, path=path))

    # Not 1: at the first step of a shot there is nothing to track yet, and a fit to noise may exceed a threshold once.
    assert f1_by_label(answers(still, 4), ["static"])["static"] > 0.95
