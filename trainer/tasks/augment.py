"""Changes clips as another camera, framing or light would; all frames of a clip change alike."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.networks.classifier import VideoClassifier
from trainer.networks.luma import luma
from trainer.recipe.classify import Augmentation


def _uniform(size: tuple[int, ...], low: float, high: float) -> Tensor:
    return torch.rand(size) * (high - low) + low


def random_crop(frames: Tensor, height: int, width: int, augmentation: Augmentation) -> Tensor:
    """frames (B,T,H,W,3) uint8 -> pictures (B,T,3,height,width) float32 in [0,1]: a crop, perhaps mirrored."""
    batch_size, num_steps = frames.shape[0], frames.shape[1]
    area = _uniform((batch_size,), augmentation.min_area, 1.0)
    stretch = torch.exp(_uniform((batch_size,), -1.0, 1.0) * math.log(augmentation.max_aspect) / 2)
    scale_x = (area.sqrt() * stretch).clamp(max=1.0)
    scale_y = (area.sqrt() / stretch).clamp(max=1.0)
    theta = torch.zeros(batch_size, 2, 3)
    theta[:, 0, 2] = _uniform((batch_size,), -1.0, 1.0) * (1 - scale_x)
    theta[:, 1, 2] = _uniform((batch_size,), -1.0, 1.0) * (1 - scale_y)
    theta[:, 0, 0] = torch.where(torch.rand(batch_size) < augmentation.flip, -scale_x, scale_x)
    theta[:, 1, 1] = scale_y
    # Time is folded into the channels, so that one grid serves all frames of a clip.
    planes = frames.permute(0, 1, 4, 2, 3).flatten(1, 2).to(torch.float32) / VideoClassifier.max_pixel  # (B,T*3,H,W)
    grid = F.affine_grid(theta, [batch_size, num_steps * 3, height, width], align_corners=False)
    planes = F.grid_sample(planes, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return planes.reshape(batch_size, num_steps, 3, height, width)


def jitter_colour(pictures: Tensor, augmentation: Augmentation) -> Tensor:
    """(B,T,3,H,W) in [0,1] -> the same in another light."""
    size = (pictures.shape[0], 1, 1, 1, 1)
    light = luma(pictures).unsqueeze(2)  # (B,T,1,H,W)
    saturation = _uniform(size, 1 - augmentation.saturation, 1 + augmentation.saturation)
    saturation = torch.where(torch.rand(size) < augmentation.grey, 0.0, saturation)
    mean = light.mean(dim=(1, 2, 3, 4), keepdim=True)
    contrast = _uniform(size, 1 - augmentation.contrast, 1 + augmentation.contrast)
    tint = _uniform((size[0], 1, 3, 1, 1), 1 - augmentation.tint, 1 + augmentation.tint)
    gain = _uniform(size, 1 - augmentation.brightness, 1 + augmentation.brightness) * tint
    pictures = torch.lerp(light, pictures, saturation)
    return (((pictures - mean) * contrast + mean) * gain).clamp_(0.0, 1.0)


def erase(pictures: Tensor, chance: float) -> Tensor:
    """(B,T,3,H,W) -> the same, changed in place: some clips get a grey rectangle in all frames (Zhong et al. 2017)."""
    height, width = pictures.shape[3], pictures.shape[4]
    for clip in pictures:
        if torch.rand(()) < chance:
            side = _uniform((2,), 0.15, 0.5)
            h, w = int(side[0] * height), int(side[1] * width)
            top, left = int(torch.rand(()) * (height - h)), int(torch.rand(()) * (width - w))
            clip[:, :, top : top + h, left : left + w] = 0.5
    return pictures


def augment(frames: Tensor, height: int, width: int, augmentation: Augmentation) -> Tensor:
    """frames (B,T,H,W,3) uint8 -> pictures (B,T,3,height,width) float32 in [0,1]."""
    pictures = random_crop(frames, height, width, augmentation)
    return erase(jitter_colour(pictures, augmentation), augmentation.erase)
