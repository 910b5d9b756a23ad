"""The principal components of vectors: what many values have in common, said once."""

from typing import Final

import torch
from torch import Tensor, nn


class Components(nn.Module):
    """The first principal components of vectors (B,size), then some standardised values; all have one variance.

    (B,size+num_kept) -> (B,num_components+num_kept). They are fitted once, on many vectors, and then stay fixed. An
    output vector is about 1 long, so that the product of two is their similarity.
    """

    most_deviations: Final[float] = 10.0
    """Values further from their mean are clipped to this, so that one odd statistic does not drown the others."""
    least_share: Final[float] = 1e-9
    """Share of the first component's variance. A component with less is rounding noise, and always 0."""

    mean: Tensor
    deviation: Tensor
    axes: Tensor

    def __init__(self, size: int, num_components: int, num_kept: int = 0) -> None:
        """`size`: values that the components are made of; `num_kept`: values after them that are only standardised."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(size + num_kept))
        self.register_buffer("deviation", torch.ones(size + num_kept))
        self.register_buffer("axes", torch.eye(size, num_components))
        self.size, self.dimension = size, num_components + num_kept

    def standardise(self, vectors: Tensor) -> Tensor:
        """Vectors, float64 -> the same in standard deviations from the mean."""
        deviations = (vectors - self.mean.double()) / self.deviation.double()
        return deviations.clamp(-self.most_deviations, self.most_deviations)

    def forward(self, vectors: Tensor) -> Tensor:
        """(B,size+num_kept) float64 -> (B,num_components+num_kept) float32."""
        standardised = self.standardise(vectors)
        components, kept = standardised[:, : self.size] @ self.axes.double(), standardised[:, self.size :]
        found: Tensor = torch.cat((components, kept), dim=1) / self.dimension**0.5
        return found.float()

    def fit(self, vectors: Tensor) -> None:
        """Finds the components of `vectors`, float64."""
        self.mean.copy_(vectors.mean(dim=0))
        deviation = vectors.std(dim=0, correction=0)
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))
        standardised = self.standardise(vectors)[:, : self.size]
        variances, axes = torch.linalg.eigh(standardised.T @ standardised / len(vectors))  # the largest come last
        num_components = self.axes.shape[1]
        variances, axes = variances[-num_components:].flip(0), axes[:, -num_components:].flip(1)
        self.axes.copy_(axes * torch.where(variances > self.least_share * variances[0], variances, torch.inf).rsqrt())
