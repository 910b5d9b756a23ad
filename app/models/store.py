"""`model_store/<name>/<version>/` -> callables: what is served, and that it is what was published.

A model is looked up among those that were loaded: no name from a request ever becomes a path.
"""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from pydantic import ValidationError

from app.cores import num_cores
from app.errors import ModelRejected, UnknownModel
from app.models import torchscript
from app.models.archive import check_archive
from app.models.checks import check_answers, check_methods
from app.models.golden import read_golden
from app.models.manifest import NAME_PATTERN, VERSION_PATTERN, ClassifyOutput, Manifest, read_manifest
from app.models.precision import Precision, PrecisionChoice, in_bfloat16, is_better, prepare

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
        """`defaults`: by task, the name that a request without one means; without a default it is the first in order.

        A classifier that has something to say about any file comes before those that only know classes of their own.
        """
        self.replace(models)
        self._defaults = dict(defaults or {})
        for task, name in self._defaults.items():
            if name not in self.names(task):
                raise ModelRejected(
                    f"the default for {task} is {name}, and there is no such model; there are: {self._listed(task)}"
                )

    def replace(self, models: Sequence[ServedModel]) -> None:
        """Serves `models` from now on. Work that was begun with another model is finished with that one.

        Raises ModelRejected, and changes nothing, where versions of one name are for different tasks.
        """
        names: dict[str, dict[str, ServedModel]] = {}
        for model in sorted(models, key=lambda model: (model.manifest.name, int(model.manifest.version))):
            manifest, versions = model.manifest, names.setdefault(model.manifest.name, {})
            versions[manifest.version] = model
            if manifest.task != (task := next(iter(versions.values())).manifest.task):
                name = manifest.name
                raise ModelRejected(
                    f"model {name} is for {task}, but its version {manifest.version} for {manifest.task}"
                )
        self._versions = names

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
        """The model a request means: without a name the task's default, without a version the newest.

        Raises UnknownModel, which lists what there is.
        """
        if name is None:
            name = self._default(task)
        versions = self._versions_of(name, task)
        if version is None:
            version = next(reversed(versions))
        if version not in versions:
            raise UnknownModel(f"Model {name} has no version {_quoted(version)}; there are: {', '.join(versions)}.")
        if task is not None and (other := versions[version].manifest.task) != task:
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
                wanted_model, _, wanted_version = name.partition("@")
                if versions := [version for model, version in found if model == wanted_model]:
                    raise ModelRejected(
                        f"{store} has no version {wanted_version!r} of {wanted_model}; there are: {', '.join(versions)}"
                    )
                there = ", ".join(dict.fromkeys(model for model, _ in found))
                raise ModelRejected(f"{store} has no model {name!r}; there are: {there or 'none'}")
        return [(name, version) for name, version in found if wanted & {name, f"{name}@{version}"}]


def open_store(
    path: Path,
    names: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    defaults: Mapping[str, str] | None = None,
    choice: PrecisionChoice = "float32",
) -> ModelStore:
    """Loads and checks every version of `names` (a name, or name@version), or of all models in the store.

    As many at once as there are cores. Raises ModelRejected for the first that may not be served: the service does not
    start with half of its models; or for a device that is not there.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without CUDA
        raise ModelRejected(f"the device {device} cannot be used: {str(error).partition(chr(10))[0]}") from error
    folders = [path / name / version for name, version in Selection(tuple(names or ())).find(path)]
    # One thread of PyTorch each: the golden checks would else fight for the cores with one another.
    with ThreadPoolExecutor(num_cores(), "store", torch.set_num_threads, (1,)) as pool:
        load = partial(load_version, device=device, choice=choice)
        return ModelStore(list(pool.map(load, folders)), defaults)


def load_version(folder: Path, device: torch.device | str = "cpu", choice: PrecisionChoice = "float32") -> ServedModel:
    """One version, loaded from the very bytes that were hashed and checked against its golden output.

    Raises ModelRejected with the folder and the reason.
    """
    model = make_ready(freeze_version(folder, device), folder, choice)
    logger.info("loaded %s version %s, sha256 %s", model.manifest.name, model.manifest.version, model.digest)
    return model


def freeze_version(folder: Path, device: torch.device | str = "cpu") -> ServedModel:
    """One version before `make_ready`: its module can be saved. Raises ModelRejected with the folder and the reason."""
    with _told_of(folder):
        return _freeze_version(folder, torch.device(device))


def make_ready(model: ServedModel, folder: Path, choice: PrecisionChoice = "float32") -> ServedModel:
    """The version as it runs fastest here, once its module, optimised in place, answers the golden output in `folder`.

    Raises ModelRejected with the folder and the reason.
    """
    with _told_of(folder):
        manifest, device, golden = model.manifest, model.device, read_golden(folder / "golden.npz")
        fast = in_bfloat16(choice, model.module, manifest, device)
        prepare(model.module, manifest, device, "float32")
        check_answers(model.module, manifest, golden, device)
        if fast is not None and is_better(choice, fast, model.module, manifest, golden, device):
            return replace(model, module=fast, precision="bfloat16")
        return model


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except ModelRejected as error:
        raise ModelRejected(f"{folder}: {error}") from error
    except OSError as error:
        raise ModelRejected(f"{folder}: {error.filename or 'a file'} cannot be read: {error.strerror}") from error


def _freeze_version(folder: Path, device: torch.device) -> ServedModel:
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

    check_methods(module, manifest)
    return ServedModel(manifest, digest, module, card, device)
