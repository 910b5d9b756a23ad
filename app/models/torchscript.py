"""TorchScript, in and out: the one file of the service that compiles, saves, loads or freezes a module.

PyTorch has deprecated TorchScript (https://docs.pytorch.org/docs/stable/jit.html). Everything that would change with
another format is here, and so is the filter of exactly those warnings.
"""

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from app.models.manifest import Task

STEP_METHODS: dict[Task, tuple[str, ...]] = {
    "classify": ("initial_state", "step"),
    "predict": ("initial_state", "step", "decode"),
    "features": ("initial_state", "step", "clip", "log_mel"),
    "caption": (),
}
"""By task, what a module that can step has beside `forward`."""

KEPT_METHODS = sorted({"search"}.union(*STEP_METHODS.values()))
"""What is kept of a module beside `forward`. `search` is a describer's; the trainer judges it by that."""

RUN_ERRORS = (RuntimeError, torch.jit.Error)
"""What a scripted module raises; torch.jit.Error, which comes from inside the interpreter, is no RuntimeError."""


def lacks_memory(error: Exception) -> bool:
    """Whether a module raised `error` for lack of memory; on the CPU only the message says so."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def _deprecation_accepted() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield


def script(module: nn.Module) -> torch.jit.ScriptModule:
    """The module compiled, in evaluation mode; shares its parameters. Raises RuntimeError for what cannot be."""
    with _deprecation_accepted():
        scripted = torch.jit.script(module.eval())
    assert isinstance(scripted, torch.jit.ScriptModule)
    return scripted


def save(scripted: torch.jit.ScriptModule) -> bytes:
    """The content of `model.pt`, which is not frozen, so that it still has its parameters by name."""
    with _deprecation_accepted(), io.BytesIO() as buffer:
        torch.jit.save(scripted, buffer)
        return buffer.getvalue()


def without_sources(model_bytes: bytes) -> bytes:
    """The same module without the paths of its source files, which `save` keeps for error messages.

    They are of no use elsewhere, and reveal something of the machine that a model was trained on.
    """
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(io.BytesIO(model_bytes)) as saved, zipfile.ZipFile(buffer, "w") as kept:
            for entry in saved.infolist():
                if not entry.filename.endswith(".debug_pkl"):
                    same = zipfile.ZipInfo(entry.filename)  # with the date that `save` gives all, 1980
                    same.compress_type = entry.compress_type
                    kept.writestr(same, saved.read(entry))
        return buffer.getvalue()


def weights(model_bytes: bytes) -> dict[str, torch.Tensor]:
    """The parameters and buffers in `model_bytes` by name: what another training can begin with.

    Hash the bytes first, as for `load`. Raises RuntimeError for bytes that are not TorchScript.
    """
    with _deprecation_accepted():
        module = torch.jit.load(io.BytesIO(model_bytes), map_location="cpu")  # type: ignore[no-untyped-call]
    found: dict[str, torch.Tensor] = module.state_dict()
    return found


def load(model_bytes: bytes, device: torch.device | str = "cpu") -> torch.jit.ScriptModule:
    """The module in `model_bytes`, frozen on `device`: only `forward` and KEPT_METHODS are left of it.

    TorchScript is code that may read and write files, from the moment it is loaded; and of 300 files with a few
    flipped bits, 247 loaded without an error and answered something else. So the caller hashes these very bytes first.
    Raises RuntimeError for bytes that are not TorchScript.
    """
    module = load_as_saved(model_bytes, device).eval()
    with _deprecation_accepted():
        # Freezing drops methods that are not named.
        frozen = torch.jit.freeze(module, preserved_attrs=[name for name in KEPT_METHODS if hasattr(module, name)])
    assert isinstance(frozen, torch.jit.ScriptModule)
    return frozen


def optimise(frozen: torch.jit.ScriptModule) -> None:
    """Turns convolutions into oneDNN's, in place; the module cannot be saved any more. It answers the same to rounding.

    For the processor only, and not under autocast. Raises RuntimeError.
    """
    with _deprecation_accepted():
        methods = [name for name in KEPT_METHODS if frozen._c._has_method(name)]
        torch.jit.optimize_for_inference(frozen, other_methods=methods)


def copy(frozen: torch.jit.ScriptModule, device: torch.device | str = "cpu") -> torch.jit.ScriptModule:
    """A copy that has not run: once a module has run or was optimised, changes to its graph have no effect."""
    return load_as_saved(save(frozen), device)


def load_as_saved(module_bytes: bytes, device: torch.device | str = "cpu") -> torch.jit.ScriptModule:
    """The module that `save` saved, frozen or not, but not optimised. Hash the bytes first, as for `load`.

    For a module that `load` froze before, this takes a quarter of the time. Both hold Python's lock all the while: for
    `actions`, `load` takes 112 ms of a core, this 26 ms.
    """
    with _deprecation_accepted():
        # Shapes change with every batch. Without this the profiling executor compiles again for the first ones it
        # sees: 94 ms instead of 5 ms for the first call of a scripted recurrence, 2.5 instead of 0.1 ms for a new T.
        torch.jit.set_fusion_strategy([("DYNAMIC", 0)])
        module = torch.jit.load(io.BytesIO(module_bytes), map_location=device)  # type: ignore[no-untyped-call]
    assert isinstance(module, torch.jit.ScriptModule)
    return module
