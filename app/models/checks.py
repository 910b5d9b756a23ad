"""Whether a module is what its manifest says."""

from math import isclose

import torch

from app.errors import ModelRejected
from app.models import torchscript
from app.models.golden import LOGITS, Golden, check_golden
from app.models.manifest import CaptionOutput, ClassifyOutput, FeaturesOutput, Manifest, PredictOutput


def check_methods(module: torch.jit.ScriptModule, manifest: Manifest) -> None:
    """Raises ModelRejected unless the module has the methods that its task needs."""
    stepped = torchscript.STEP_METHODS[manifest.task] if manifest.causal else ()
    missing = [method for method in ("forward", *stepped) if not hasattr(module, method)]
    if missing:
        raise ModelRejected(f"model.pt has no method {' and no method '.join(missing)}")


def check_answers(
    module: torch.jit.ScriptModule, manifest: Manifest, golden: Golden, device: torch.device | str = "cpu"
) -> None:
    """Raises ModelRejected unless the module gives the answers that were published, of the sizes that it claims."""
    tolerance = manifest.golden_tolerance.float32
    check_golden(module, manifest.task, golden, tolerance, manifest.input.step_samples, device)
    _check_sizes(golden, manifest)


def _check_sizes(golden: Golden, manifest: Manifest) -> None:
    """The golden output, which the module has reproduced by now, against the manifest."""
    if (golden.chunk.ndim == 5) != (manifest.input.media == "video"):
        raise ModelRejected(f"golden.npz has another input than {manifest.input.media}")
    if manifest.input.media == "video" and manifest.input.width != "any":
        height, width = golden.chunk.shape[2:4]
        if (width, height) != (manifest.input.width, manifest.input.height):
            expected = f"{manifest.input.width}x{manifest.input.height}"
            raise ModelRejected(f"golden.npz has frames of {width}x{height}, the manifest says {expected}")
    match manifest.output:
        case ClassifyOutput(labels=labels):
            for name in sorted(LOGITS & golden.outputs.keys()):
                _check_size(golden, name, "logits" if name == "logits" else f"logits {name}", len(labels), "labels")
        case PredictOutput():
            for name in ("forecast", "next_frames"):
                if golden.outputs[name].shape[2:] != golden.chunk.shape[2:]:
                    raise ModelRejected(f"its {name} has frames of another size than its input")
        case FeaturesOutput(dimension=dimension, step_dimension=step_dimension, num_mels=num_mels):
            assert manifest.input.sample_rate is not None
            hop = golden.chunk.shape[1] / manifest.input.sample_rate / golden.outputs["stepped"].shape[1]
            if not isclose(hop, manifest.output.hop_seconds):
                raise ModelRejected(f"its steps are {hop:g} s apart, the manifest says {manifest.output.hop_seconds:g}")
            _check_size(golden, "clip", "values for a clip", dimension, "of them")
            _check_size(golden, "stepped", "values for a step", step_dimension, "of them")
            _check_size(golden, "log_mel", "mel bands", num_mels, "of them")
        case CaptionOutput(vocabulary=vocabulary):
            if golden.outputs["tokens"].max() >= len(vocabulary):
                raise ModelRejected(f"it answers words beyond the {len(vocabulary)} of the manifest's vocabulary")
    if manifest.causal and golden.outputs["state"].shape[1] != manifest.state_size:
        size = golden.outputs["state"].shape[1]
        if manifest.input.width != "any":  # else it goes with the size of the picture
            raise ModelRejected(f"its state has {size} values, the manifest says {manifest.state_size}")


def _check_size(golden: Golden, name: str, what: str, expected: int, of_what: str) -> None:
    found = golden.outputs[name].shape[-1]
    if found != expected:
        raise ModelRejected(f"it answers {found} {what}, the manifest has {expected} {of_what}")
