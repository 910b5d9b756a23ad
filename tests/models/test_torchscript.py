import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from app.models import torchscript
from app.models.archive import check_archive
from tests.tiny_models import make_tiny


class NoMethods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(2, 1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.output(frames)

    @torch.jit.export
    def left_over(self, frames: Tensor) -> Tensor:
        return frames


@torch.inference_mode()
def test_a_module_answers_the_same_before_and_after():
    module = make_tiny().eval()
    loaded = torchscript.load(torchscript.save(torchscript.script(module)))
    frames = torch.randint(0, 256, (2, 5, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([5, 2])
    torch.testing.assert_close(loaded(frames, lengths), module(frames, lengths), rtol=0, atol=1e-5)  # the contract's
    initial = loaded.initial_state(2, 16, 16)
    for answer, expected in zip(
        loaded.step(frames, lengths, initial), module.step(frames, lengths, initial), strict=True
    ):
        torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)


def test_freezing_keeps_the_methods_that_are_named_and_no_parameter():
    loaded = torchscript.load(torchscript.save(torchscript.script(make_tiny())))
    assert all(hasattr(loaded, method) for method in torchscript.STEP_METHODS["classify"])
    assert list(loaded.parameters()) == []


def test_a_module_without_optional_methods_loads_and_drops_the_others():
    loaded = torchscript.load(torchscript.save(torchscript.script(NoMethods())))
    assert not any(hasattr(loaded, name) for name in ("initial_state", "step", "left_over"))
    assert loaded(torch.zeros(3, 2)).shape == (3, 1)


def test_saved_modules_still_have_their_parameters():
    scripted = torchscript.script(make_tiny())
    torchscript.load(torchscript.save(scripted))
    assert {name for name, _ in scripted.named_parameters()} == {name for name, _ in make_tiny().named_parameters()}


@torch.inference_mode()
def test_without_its_sources_a_module_is_the_same():
    saved = torchscript.save(torchscript.script(make_tiny()))
    bare = torchscript.without_sources(saved)
    here = str(Path(__file__).parents[2])
    assert here in everything_in(saved)
    assert here not in everything_in(bare)
    check_archive(bare)
    frames = torch.randint(0, 256, (2, 5, 16, 16, 3), dtype=torch.uint8)
    answers = [torchscript.load(content)(frames, torch.tensor([5, 2])) for content in (saved, bare)]
    assert torch.equal(*answers)
    assert torchscript.weights(bare).keys() == torchscript.weights(saved).keys()
    with pytest.raises(torchscript.RUN_ERRORS):
        torchscript.load(bare)(torch.zeros(1, 2, 4, 4, 5, dtype=torch.uint8), torch.tensor([2]))


def everything_in(model_bytes: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(model_bytes)) as archive:
        return "".join(archive.read(name).decode("latin-1") for name in archive.namelist())


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_truncated_bytes_are_an_error(share: float):
    model_bytes = torchscript.save(torchscript.script(make_tiny()))
    with pytest.raises(torchscript.RUN_ERRORS):
        torchscript.load(model_bytes[: int(len(model_bytes) * share)])


def test_an_error_inside_a_module_is_one_of_run_errors():
    loaded = torchscript.load(torchscript.save(torchscript.script(make_tiny())))
    with pytest.raises(torchscript.RUN_ERRORS):
        loaded(torch.zeros(1, 2, 4, 4, 5, dtype=torch.uint8), torch.tensor([2]))


@torch.inference_mode()
def test_an_optimised_module_answers_the_same_by_other_convolutions():
    model_bytes = torchscript.save(torchscript.script(make_tiny()))
    frozen, optimised = torchscript.load(model_bytes), torchscript.load(model_bytes)
    torchscript.optimise(optimised)
    assert "mkldnn_convolution" in str(optimised.step.graph)
    assert "mkldnn_convolution" not in str(frozen.step.graph)
    frames = torch.randint(0, 256, (2, 5, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lengths, state = torch.tensor([5, 2]), frozen.initial_state(2, 16, 16)
    for answer, expected in zip(
        optimised.step(frames, lengths, state), frozen.step(frames, lengths, state), strict=True
    ):
        torch.testing.assert_close(answer, expected, rtol=0, atol=1e-5)
