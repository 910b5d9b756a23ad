"""How alike two pictures are."""

import torch.nn.functional as F
from torch import Tensor

WINDOW = 7  # pixels, uniform: scikit-image's default, which the forecasting benchmarks use


def structural_similarity(first: Tensor, second: Tensor, data_range: float = 1.0) -> Tensor:
    """SSIM (N,) of pictures (N,C,H,W), averaged over windows and colours (Wang et al. 2004).

    Computed as scikit-image does by default: uniform windows inside the picture, sample covariance.
    """
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    mean_first, mean_second = F.avg_pool2d(first, WINDOW, 1), F.avg_pool2d(second, WINDOW, 1)
    variances = F.avg_pool2d(first**2 + second**2, WINDOW, 1) - mean_first**2 - mean_second**2
    covariance = F.avg_pool2d(first * second, WINDOW, 1) - mean_first * mean_second
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_first * mean_second + c1) / (mean_first**2 + mean_second**2 + c1)
    structure = (2 * unbiased * covariance + c2) / (unbiased * variances + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))
