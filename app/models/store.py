"""`model_store/<name>/<version>/` -> callables: what is served, and that it is what was published.

A model is looked up among those that were loaded: no name from a request ever becomes a path.
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import ValidationError

from app.errors import ModelRejected, UnknownModel
from app.models import torchscript
from app.models.archive import check_archive
from app.models.golden import Golden, check_golden, read_golden
from app.models.manifest import (
    NAME_PATTERN,
    VERSION_PATTERN,
    CaptionOutput,
    ClassifyOutput,
    FeaturesOutput,
    Manifest,
    read_manifest,
)
from app.models.precision import Precision, PrecisionChoice, choose_precision

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """One version of a model, checked and ready to run."""

    manifest: Manifest
    digest: str
    """SHA-256 of the bytes that were loaded, in hexadecimal."""
    module: torch.jit.ScriptModule
    """Frozen; has `forward` and, where the manifest says causal, its task's STEP_METHODS."""
    card: str
    """Markdown."""
    device: torch.device
    """Where the module is."""
    precision: Precision = "float32"
    """What it is run in."""


def list_names(store: Path) -> list[str]:
    """The names in a model store, in order; a folder whose name begins with a dot is not one."""
    return sorted(_folders(store, NAME_PATTERN, "the name of a model"))


def list_versions(store: Path, name: str) -> list[str]:
    """The versions of a model, oldest first, compared as numbers; none if there is no such model."""
    folder = store / name
    return sorted(_folders(folder, VERSION_PATTERN, "a version"), key=int) if folder.is_dir() else []


def _folders(parent: Path, pattern: str, kind: str) -> list[str]:
    names = [path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for name in names:
        if not re.fullmatch(pattern, name):
            raise ModelRejected(f"{parent / name}: a folder here must be {kind}, {pattern}")
    return names


class ModelStore:
    """All versions of the models that are served."""

    def __init__(self, models: Sequence[ServedModel], defaults: Mapping[str, str] | None = None) -> None:
        """`defaults`: by task, the name that a request without one means; else it is the first in order.

        A classifier that has something to say about any file goes before those that only know classes of their own.
        """
        self.replace(models)
        self._defaults = dict(defaults or {})
        for task, name in self._defaults.items():
            if name not in self.names(task):
                raise ModelRejected(
                    f"the default for {task}, {name}, is no such model; there are: {self._listed(task)}"
                )

    def replace(self, models: Sequence[ServedModel]) -> None:
        """Serves `models` from now on. Work that was begun with another one is finished with that."""
        self._versions: dict[str, dict[str, ServedModel]] = {}
        for model in sorted(models, key=lambda model: (model.manifest.name, int(model.manifest.version))):
            self._versions.setdefault(model.manifest.name, {})[model.manifest.version] = model

    def names(self, task: str | None = None) -> list[str]:
        """The names in order, of one task or of all."""
        return [name for name in self._versions if task is None or self._newest(name).manifest.task == task]

    def versions(self, name: str) -> list[str]:
        """The versions of a model, oldest first. Raises UnknownModel."""
        return list(self._versions_of(name))

    def models(self) -> list[ServedModel]:
        """Every version of every model."""
        return [model for versions in self._versions.values() for model in versions.values()]

    def get(self, name: str | None = None, version: str | None = None, task: str | None = None) -> ServedModel:
        """The model a request means: the task's default without a name, the newest without a version.

        Raises UnknownModel, with what there is.
        """
        if name is None:
            name = self._default(task)
        versions = self._versions_of(name, task)
        if version is None:
            version = next(reversed(versions))
        if version not in versions:
            raise UnknownModel(f"Model {name} has no version {_quoted(version)}; there are: {', '.join(versions)}.")
        if task is not None and versions[version].manifest.task != task:
            other = versions[version].manifest.task
            raise UnknownModel(f"Model {name} is for {other}, not for {task}; there are: {self._listed(task)}.")
        return versions[version]

    def _default(self, task: str | None) -> str:
        names = self.names(task)
        if not names:
            raise UnknownModel(f"No model for {task} is served." if task else "No model is served.")
        if task in self._defaults:
            return self._defaults[task]
        outputs = {name: self._newest(name).manifest.output for name in names}
        general = [name for name, output in outputs.items() if isinstance(output, ClassifyOutput) and output.general]
        return (general or names)[0]

    def _versions_of(self, name: str, task: str | None = None) -> dict[str, ServedModel]:
        if name not in self._versions:
            raise UnknownModel(f"There is no model {_quoted(name)}; there are: {self._listed(task)}.")
        return self._versions[name]

    def _newest(self, name: str) -> ServedModel:
        versions = self._versions[name]
        return versions[next(reversed(versions))]

    def _listed(self, task: str | None) -> str:
        return ", ".join(self.names(task)) or "none"


def _quoted(text: str) -> str:
    """A client's text in a message: not longer than a name can be, and on one line."""
    return ascii(text if len(text) <= 64 else text[:61] + "...")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which versions of a store are served: all, those of some names, or single ones that are pinned as `name@3`."""

    names: tuple[str, ...] = ()

    def find(self, store: Path) -> list[tuple[str, str]]:
        """(name, version) of each, in order. Raises ModelRejected where one is asked for and not there."""
        if not store.is_dir():
            raise ModelRejected(f"{store}: there is no such model store")
        found = [(name, version) for name in list_names(store) for version in list_versions(store, name)]
        if not self.names:
            return found
        wanted = set(self.names)
        for name in self.names:
            if name not in {part for model, version in found for part in (model, f"{model}@{version}")}:
                there = ", ".join(dict.fromkeys(model for model, _ in found))
                raise ModelRejected(f"{store} has no model {name!r}; there are: {there or 'none'}")
        return [(name, version) for name, version in found if wanted & {name, f"{name}@{version}"}]


def open_store(
    path: Path,
    names: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    defaults: Mapping[str, str] | None = None,
    precision: PrecisionChoice = "float32",
) -> ModelStore:
    """Loads and checks every version of `names` (a name, or name@version), or of all models in the store.

    Raises ModelRejected for the first that may not be served: the service does not start with half of its models.
    """
    found = Selection(tuple(names or ())).find(path)
    return ModelStore([load_version(path / name / version, device, precision) for name, version in found], defaults)


def load_version(
    folder: Path, device: torch.device | str = "cpu", precision: PrecisionChoice = "float32"
) -> ServedModel:
    """One version, loaded from the very bytes that were hashed and checked against its golden output.

    Raises ModelRejected with the folder and the reason.
    """
    try:
        model = _load_version(folder, torch.device(device), precision)
    except ModelRejected as error:
        raise ModelRejected(f"{folder}: {error}") from error
    except OSError as error:
        raise ModelRejected(f"{folder}: {error.filename or 'a file'} cannot be read: {error.strerror}") from error
    logger.info("loaded %s version %s, sha256 %s", model.manifest.name, model.manifest.version, model.digest)
    return model


def _load_version(folder: Path, device: torch.device, precision: PrecisionChoice) -> ServedModel:
    try:
        manifest = read_manifest(folder / "manifest.json")
    except ValidationError as error:
        raise ModelRejected(f"manifest.json is not valid: {error}") from error
    if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
        raise ModelRejected(f"manifest.json says that this is {manifest.name} version {manifest.version}")
    card = (folder / "card.md").read_text(encoding="utf-8")

    model_bytes = (folder / "model.pt").read_bytes()
    digest = hashlib.sha256(model_bytes).hexdigest()
    if digest != manifest.sha256:
        raise ModelRejected(f"model.pt has the sha256 {digest}, its manifest says {manifest.sha256}")
    check_archive(model_bytes)
    try:
        module = torchscript.load(model_bytes, device)
    except torchscript.RUN_ERRORS as error:
        raise ModelRejected(f"model.pt is not a TorchScript module: {error}") from error

    model = ServedModel(manifest, digest, module, card, device)
    golden = read_golden(folder / "golden.npz")
    check_answers(model, golden)
    return replace(model, precision=choose_precision(precision, module, manifest, golden, device))


def check_answers(model: ServedModel, golden: Golden) -> None:
    """Raises ModelRejected unless the module has the methods and gives the answers that were published."""
    module, manifest = model.module, model.manifest
    _check_methods(module, manifest)
    tolerance = manifest.golden_tolerance.float32
    check_golden(module, manifest.task, golden, tolerance, manifest.input.step_samples, model.device)
    _check_sizes(golden, manifest)


def _check_methods(module: torch.jit.ScriptModule, manifest: Manifest) -> None:
    stepped = torchscript.STEP_METHODS[manifest.task] if manifest.causal else ()
    missing = [method for method in ("forward", *stepped) if not hasattr(module, method)]
    if missing:
        raise ModelRejected(f"model.pt has no method {' and no method '.join(missing)}")


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
            _check_size(golden, "logits", "logits", len(labels), "labels")
        case FeaturesOutput(dimension=dimension, step_dimension=step_dimension, num_mels=num_mels):
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
