"""How bright colours are, by ITU-R BT.601."""

from torch import Tensor


def luma(pictures: Tensor) -> Tensor:
    """pictures (...,3,H,W) in [0,1] -> (...,H,W) in [0,1]."""
    return 0.299 * pictures.select(-3, 0) + 0.587 * pictures.select(-3, 1) + 0.114 * pictures.select(-3, 2)


def grey(pictures: Tensor) -> Tensor:
    """(N,C,H,W), RGB or grey -> (N,1,H,W): what is grey stays as it is."""
    return pictures if pictures.shape[1] == 1 else luma(pictures).unsqueeze(1)
