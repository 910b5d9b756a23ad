"""Convolutions in bfloat16, in graphs that are not those of the models that are shipped."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from app.models import torchscript
from app.models.bfloat16 import lower
from app.models.precision import has_bfloat16

CPU = torch.device("cpu")
CONVOLUTION = "mkldnn::_convolution_pointwise"

pytestmark = pytest.mark.skipif(not has_bfloat16(CPU), reason="no instructions for bfloat16")


class Two(nn.Module):
    """Two convolutions and what a test puts between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)


class Residual(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return F.max_pool2d(x + F.relu(self.second(x)), 2).mean(dim=(2, 3))


class InPlace(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.first(x))
        x += F.relu_(self.second(x))
        return x


class WrittenInto(Two):
    """What is read is not what the convolution gave."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x[:, :4] = 1.0
        before = F.relu(x)
        x[:, 4:] *= 2.0
        return before + self.second(F.relu(x))


class Branches(Two):
    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(x.shape[0]):
            x = self.second(x) if x.shape[2] > 4 else F.relu(x)
        return x


class Scaled(Two):
    """Numbers are added too, and a tensor that is exact."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2] + x.shape[3]
        return self.second(F.relu(self.first(x)) + x.mean()) / size


class Words(Two):
    """A padding that is a word stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(8, 8, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Strided(Two):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, (5, 3), stride=(2, 1), padding=(2, 0), dilation=(1, 2))
        self.second = nn.Conv2d(8, 8, 3, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.second(F.relu(self.first(x))))


def frozen(make: Callable[[], nn.Module]) -> torch.jit.ScriptModule:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torchscript.load(torchscript.save(torchscript.script(make())))


@pytest.mark.parametrize(
    ("make", "expected"),
    [(Residual, 2), (InPlace, 2), (WrittenInto, 2), (Branches, 2), (Scaled, 2), (Words, 1), (Strided, 2)],
)
def test_a_lowered_module_answers_nearly_the_same(make: Callable[[], nn.Module], expected: int) -> None:
    exact, fast, saved = frozen(make), frozen(make), torchscript.copy(frozen(make))
    assert (lower(fast, CPU), lower(saved, CPU)) == (expected, expected)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):  # TorchScript compiles in the first runs
        pictures = torch.randn(2, 3, 12, 14, generator=generator)
        with torch.inference_mode():
            wanted, found = exact(pictures.clone()), fast(pictures.clone())
            assert torch.equal(found, saved(pictures.clone()))
        assert found.dtype == torch.float32
        assert not torch.equal(found, wanted)
        assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_between_convolutions_nothing_is_cast() -> None:
    fast = frozen(Residual)
    lower(fast, CPU)
    kinds = [node.kind() for node in fast.graph.nodes()]
    assert kinds.count(CONVOLUTION) == 2
    assert kinds.count("aten::to") == 2  # of what comes in, and of what is pooled in the end
    assert "aten::relu" not in kinds  # the convolutions do it


def test_what_has_no_convolution_is_left_alone() -> None:
    fast = frozen(lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU()))
    before = str(fast.graph)
    assert lower(fast, CPU) == 0
    assert str(fast.graph) == before


def test_on_another_device_a_convolution_is_pytorchs() -> None:
    """As far as can be seen without one: the graph for it runs here, too."""
    exact, fast = frozen(Residual), frozen(Residual)
    assert lower(fast, torch.device("cuda")) == 2
    assert CONVOLUTION not in str(fast.graph)
    pictures = torch.randn(2, 3, 12, 14)
    assert (fast(pictures) - exact(pictures)).abs().max() < 0.02
