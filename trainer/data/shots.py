"""One shot of a virtual camera over a still, with things that move on their own."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.camera_path import FINE_RATE, PathStyle, draw_path, look_up

Still = NDArray[np.uint8]
"""(h, w, 3)"""


@dataclass(frozen=True, slots=True)
class ShotStyle:
    """Ranges from which shots are drawn."""

    path: PathStyle = field(default_factory=PathStyle)
    view: tuple[float, float] = (0.55, 1.0)
    """Width of what the camera sees, in widths of the still, halfway between its closest and its widest."""
    max_objects: int = 3
    """Moving things; together they cover up to 40 % of the picture."""
    object_width: tuple[float, float] = (0.1, 0.55)
    """Picture widths."""
    object_speed: tuple[float, float] = (0.02, 0.5)
    """Picture widths per second."""
    near_share: float = 0.4
    """Of the things: nearer than the background, so that the camera's motion shifts them more."""
    followed_share: float = 0.25
    """Of the things: followed by the camera, so that they stay in the picture whatever the background does."""
    blur_share: float = 0.3
    """Of the shots: an open shutter smears what moves."""


NEARNESS = (1.1, 2.0)
"""How many times as far as the background near things shift when the camera moves."""
MAX_COVER = 0.4
"""Share of the picture that moving things may cover."""
SHUTTER_SECONDS = 1 / 48
BLUR_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class MovingThing:
    """A cut-out of another still."""

    cutout: Tensor
    """(4, h, w): colours times opacity, and opacity; both in [0, 1]."""
    place: NDArray[np.float64]
    """(N, 4) at FINE_RATE: its centre, from the picture's, in picture widths and heights; its width and height."""


@dataclass(frozen=True, slots=True)
class Shot:
    path: NDArray[np.float64]
    """(N, 4) at FINE_RATE, as `camera_path.draw_path` gives it."""
    view: NDArray[np.float64]
    """(N, 4) at FINE_RATE: centre (x, y) and width of what is seen, in widths of the still; angle in radians."""
    background: Tensor
    """(3, h, w) in [0, 1]; mirrored beyond its borders."""
    things: tuple[MovingThing, ...]
    blurred: bool


def draw_shot(stills: Sequence[Still], seconds: float, style: ShotStyle, generator: np.random.Generator) -> Shot:
    """A shot of at least `seconds`, made of stills picked at random."""
    path = draw_path(seconds, style.path, generator)
    background = _picture(stills, generator)
    things: list[MovingThing] = []
    cover = 0.0
    for _ in range(int(generator.integers(style.max_objects + 1))):
        width = generator.uniform(*style.object_width)
        height = min(0.9, width * generator.uniform(0.7, 1.8))
        if cover + width * height > MAX_COVER:
            break
        cover += width * height
        things.append(_draw_thing(_picture(stills, generator), (width, height), path, style, generator))
    return Shot(
        path=path,
        view=place_views(path, background.shape[1] / background.shape[2], style, generator),
        background=background,
        things=tuple(things),
        blurred=bool(generator.random() < style.blur_share),
    )


def render(shot: Shot, seconds: NDArray[np.float64], width: int, height: int) -> Tensor:
    """(T, 3, H, W) in [0, 1]: what the camera sees at `seconds` (T,)."""
    if not shot.blurred:
        return _render_sharp(shot, seconds, width, height)
    offsets = np.linspace(0.0, SHUTTER_SECONDS, BLUR_SAMPLES)
    times = np.clip(seconds[:, None] - offsets, 0.0, None).reshape(-1)
    sharp = _render_sharp(shot, times, width, height)
    return sharp.reshape(len(seconds), BLUR_SAMPLES, 3, height, width).mean(dim=1)


def _render_sharp(shot: Shot, seconds: NDArray[np.float64], width: int, height: int) -> Tensor:
    x, y, view, angle = torch.from_numpy(look_up(shot.view, seconds)).float().unbind(1)
    source_aspect, aspect = shot.background.shape[1] / shot.background.shape[2], height / width
    cosine, sine = torch.cos(angle) * view, torch.sin(angle) * view
    theta = torch.stack(
        (
            torch.stack((cosine, -sine * aspect, 2 * x - 1), dim=1),
            torch.stack((sine / source_aspect, cosine * aspect / source_aspect, 2 * y / source_aspect - 1), dim=1),
        ),
        dim=1,
    )  # (T, 2, 3): from the picture's [-1, 1] to the still's
    picture = _warp(shot.background, theta, (height, width), "reflection")
    for thing in shot.things:
        x, y, across, down = torch.from_numpy(look_up(thing.place, seconds)).float().unbind(1)
        zero = torch.zeros_like(x)
        theta = torch.stack(
            (
                torch.stack((1 / across, zero, -2 * x / across), dim=1),
                torch.stack((zero, 1 / down, -2 * y / down), dim=1),
            ),
            dim=1,
        )
        layer = _warp(thing.cutout, theta, (height, width), "zeros")
        picture = picture * (1.0 - layer[:, 3:]) + layer[:, :3]
    return picture


def _warp(source: Tensor, theta: Tensor, size: tuple[int, int], padding: str) -> Tensor:
    """source (C, h, w), theta (T, 2, 3) -> (T, C, *size)."""
    height, width = size
    # Pixel centres in [-1, 1], computed by hand: F.affine_grid takes longer than the sampling itself.
    across = (torch.arange(width) * 2 + 1) / width - 1
    down = ((torch.arange(height) * 2 + 1) / height - 1).unsqueeze(1)
    grid = torch.empty(len(theta), height, width, 2)
    for axis in range(2):
        by_x, by_y, shift = theta[:, axis].reshape(-1, 3, 1, 1).unbind(1)
        torch.add(by_x * across + shift, by_y * down, out=grid[..., axis])
    # The steps form one tall picture, so that the source is read in place instead of copied for each step.
    warped = F.grid_sample(source[None], grid.flatten(0, 1)[None], padding_mode=padding, align_corners=False)
    return warped[0].reshape(len(source), len(theta), height, width).transpose(0, 1)


def place_views(
    path: NDArray[np.float64], source_aspect: float, style: ShotStyle, generator: np.random.Generator
) -> NDArray[np.float64]:
    """(N, 4): the path as centres, widths and angles over the still."""
    magnification, angle = path[:, 2], path[:, 3] + generator.uniform(-0.1, 0.1)
    middle = (magnification.max() + magnification.min()) / 2
    width = generator.uniform(*style.view) * np.exp(middle - magnification)
    steps = np.diff(path[:, :2], axis=0, prepend=path[:1, :2]) * width[:, None]
    steps[:, 1] *= source_aspect  # from heights of the picture
    cosine, sine = np.cos(angle), np.sin(angle)
    x = np.cumsum(steps[:, 0] * cosine - steps[:, 1] * sine) + generator.uniform(0.2, 0.8)
    y = np.cumsum(steps[:, 0] * sine + steps[:, 1] * cosine) + generator.uniform(0.2, 0.8) * source_aspect
    return np.stack((x, y, width, angle), axis=1)


def _draw_thing(
    picture: Tensor,
    size: tuple[float, float],
    path: NDArray[np.float64],
    style: ShotStyle,
    generator: np.random.Generator,
) -> MovingThing:
    """A cut-out that crosses the picture, sways, and shifts with the camera as much as its distance demands."""
    seconds = np.arange(len(path)) / FINE_RATE
    kind = generator.random()
    nearness = 1.0
    if kind < style.followed_share:
        nearness = 0.0
    elif kind < style.followed_share + style.near_share:
        nearness = generator.uniform(*NEARNESS)
    direction, speed = generator.uniform(0, 2 * np.pi), generator.uniform(*style.object_speed)
    sway = generator.uniform(0, 0.04) * np.sin(2 * np.pi * generator.uniform(0.5, 2.0) * seconds)
    when = generator.uniform(0.2, 0.8) * seconds[-1]  # when it is near the middle of the picture
    centre = generator.uniform(-0.3, 0.3, 2)
    moved = path[:, :2] - look_up(path, np.array([when]))[:, :2]
    scale = np.exp(np.clip(nearness * (path[:, 2] - path[:, 2].mean()), -0.7, 0.7))
    x = centre[0] + speed * np.cos(direction) * (seconds - when) + sway - nearness * moved[:, 0]
    y = centre[1] + speed * np.sin(direction) * (seconds - when) - nearness * moved[:, 1]
    return MovingThing(_cut_out(picture, generator), np.stack((x, y, size[0] * scale, size[1] * scale), axis=1))


def _cut_out(picture: Tensor, generator: np.random.Generator) -> Tensor:
    """(4, h, w): a blob cut out of a picture (3, h, w)."""
    _, height, width = picture.shape
    y = torch.linspace(-1, 1, height).unsqueeze(1)
    x = torch.linspace(-1, 1, width)
    angle, radius = torch.atan2(y, x), torch.hypot(y, x)
    edge = 0.8 + sum(
        generator.uniform(0, 0.12) * torch.cos(k * angle + generator.uniform(0, 2 * np.pi)) for k in (2, 3, 5)
    )
    opacity = ((edge - radius) * generator.uniform(8, 40) + 0.5).clamp(0, 1)
    return torch.cat((picture * opacity, opacity.unsqueeze(0)))


def _picture(stills: Sequence[Still], generator: np.random.Generator) -> Tensor:
    """(3, h, w) in [0, 1]: one of the stills, mirrored or not."""
    still = stills[int(generator.integers(len(stills)))]
    if generator.random() < 0.5:
        still = still[:, ::-1]
    return torch.from_numpy(still.astype(np.float32).transpose(2, 0, 1)) / 255.0
