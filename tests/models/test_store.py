import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from app.errors import ModelRejected, UnknownModel
from app.models import torchscript
from app.models.golden import Golden, read_golden, write_golden
from app.models.store import ModelStore, list_names, list_versions, load_version, open_store
from tests.tiny_forecaster import TinyForecaster, write_forecaster
from tests.tiny_late import write_late
from tests.tiny_listeners import TinyDescriber, write_describer, write_listeners
from tests.tiny_models import AroundTiny, TinyClassifier, make_tiny, write_version


class SeesTheWholeChunk(AroundTiny):
    """A classifier whose `step` looks ahead within its chunk: right in one call, wrong over a split."""

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (now, so_far), state = self.inner.step(chunk, lengths, state)
        return (now - now.mean(dim=1, keepdim=True), so_far), state


class SaysOneMore(AroundTiny):
    """A classifier whose `step` judges moments by a label more than there are, and everything by as many or so, too."""

    def __init__(self, so_far_too: bool) -> None:
        super().__init__()
        self.so_far_too = so_far_too

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        (now, so_far), state = self.inner.step(chunk, lengths, state)
        if self.so_far_too:
            so_far = torch.cat([so_far, so_far[:, :, :1]], dim=2)
        return (torch.cat([now, now[:, :, :1]], dim=2), so_far), state


class SeesLess(TinyForecaster):
    """A forecaster whose `step` answers every other row of the next frame."""

    @torch.jit.export
    def step(self, chunk: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        _, T, H, W, _ = chunk.shape
        forecasts: list[Tensor] = []
        for time in range(T):
            state = self._after(chunk[:, time], time < lengths, state)
            forecasts.append(self.decode(state, 1, H, W)[:, 0, ::2])
        return torch.stack(forecasts, dim=1), state


class CannotStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = TinyClassifier()

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return self.inner(frames, lengths)


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_model(folder: Path, module: nn.Module) -> None:
    """Another module, with its own right hash."""
    model_bytes = torchscript.save(torchscript.script(module))
    (folder / "model.pt").write_bytes(model_bytes)
    edit_manifest(folder, sha256=hashlib.sha256(model_bytes).hexdigest())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_version(tmp_path)


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    path = tmp_path_factory.mktemp("model_store")
    write_version(path, "tiny")
    write_version(path, "other")
    return open_store(path)


def test_a_model_is_served_as_it_was_published(folder: Path):
    model = load_version(folder)
    assert model.digest == hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    assert model.card.startswith("# tiny")
    green = torch.zeros(1, 4, 24, 32, 3, dtype=torch.uint8)
    green[..., 1] = 255
    logits = model.module(green, torch.tensor([4]))
    assert model.manifest.output.labels[int(logits.argmax())] == "green"


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 0.999])
def test_a_flipped_bit_is_refused(folder: Path, share: float):
    model_bytes = bytearray((folder / "model.pt").read_bytes())
    model_bytes[int(len(model_bytes) * share)] ^= 1
    (folder / "model.pt").write_bytes(model_bytes)
    with pytest.raises(ModelRejected, match="sha256"):
        load_version(folder)


def test_a_truncated_model_is_refused(folder: Path):
    model_bytes = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(model_bytes[:-1])
    with pytest.raises(ModelRejected, match="sha256"):
        load_version(folder)


def test_what_is_no_torchscript_is_refused_though_its_hash_is_right(folder: Path):
    (folder / "model.pt").write_bytes(b"not a model")
    edit_manifest(folder, sha256=hashlib.sha256(b"not a model").hexdigest())
    with pytest.raises(ModelRejected, match="not a TorchScript module"):
        load_version(folder)


@pytest.mark.parametrize("file", ["model.pt", "manifest.json", "golden.npz", "card.md"])
def test_a_missing_file_is_refused_by_name(folder: Path, file: str):
    (folder / file).unlink()
    with pytest.raises(ModelRejected, match=file):
        load_version(folder)


def test_a_module_that_cannot_step_is_refused(folder: Path):
    replace_model(folder, CannotStep())
    with pytest.raises(ModelRejected, match="no method initial_state and no method step"):
        load_version(folder)


def test_another_network_is_refused_though_its_hash_is_right(folder: Path):
    replace_model(folder, make_tiny(seed=1))
    with pytest.raises(ModelRejected, match="logits differs from its golden output"):
        load_version(folder)


def test_a_module_of_another_size_is_refused(folder: Path):
    replace_model(folder, make_tiny(num_labels=2))
    with pytest.raises(ModelRejected, match="logits has the shape"):
        load_version(folder)


def test_a_step_that_depends_on_the_split_is_refused(tmp_path: Path):
    folder = write_version(tmp_path, module=SeesTheWholeChunk())
    with pytest.raises(ModelRejected, match="now after a split differs"):
        load_version(folder)


@pytest.mark.parametrize(
    ("so_far_too", "reason"),
    [(False, "4 logits now, the manifest has 3 labels"), (True, r"so_far has the shape \(2, 4\)")],
)
def test_steps_that_judge_other_labels_are_refused(tmp_path: Path, so_far_too: bool, reason: str):
    with pytest.raises(ModelRejected, match=reason):
        load_version(write_version(tmp_path, module=SaysOneMore(so_far_too)))


def test_forecasts_of_another_size_are_refused(tmp_path: Path):
    with pytest.raises(ModelRejected, match="next_frames has frames of another size than its input"):
        load_version(write_forecaster(tmp_path, module=SeesLess()))


@pytest.mark.parametrize("field", ["logits", "now", "so_far", "state"])
@pytest.mark.parametrize("change", [1e-3, np.nan])
def test_every_golden_output_is_compared(folder: Path, field: str, change: float):
    golden = read_golden(folder / "golden.npz")
    golden.outputs[field].flat[0] += change
    write_golden(folder / "golden.npz", golden)
    with pytest.raises(ModelRejected, match="golden output"):
        load_version(folder)


def test_golden_output_beyond_the_lengths_means_nothing(folder: Path):
    golden = read_golden(folder / "golden.npz")
    for clip, length in enumerate(golden.lengths):
        golden.outputs["now"][clip, length:] = np.nan
        golden.outputs["so_far"][clip, length:] = np.nan
    assert (golden.lengths < golden.chunk.shape[1]).any()
    write_golden(folder / "golden.npz", golden)
    load_version(folder)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one model for each task and medium beside TinyClassifier's."""
    path = tmp_path_factory.mktemp("others")
    write_forecaster(path)
    write_listeners(path)
    return path


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tiny-forecast", ["forecast", "next_frames", "state", "decoded"]),
        ("tiny-describer", ["clip", "steps", "stepped", "stepped_clip", "state", "log_mel", "log_mel_lengths"]),
        ("tiny-listener", ["logits", "now", "so_far", "state"]),
        ("tiny-hearer", ["logits"]),
    ],
)
def test_every_golden_output_of_every_task_is_compared(others: Path, tmp_path: Path, name: str, fields: list[str]):
    folder = shutil.copytree(others / name / "1", tmp_path / name / "1")
    load_version(folder)
    golden = read_golden(folder / "golden.npz")
    assert set(golden.outputs) - {"step_lengths"} == set(fields)
    for field in fields:
        changed = {**golden.outputs, field: golden.outputs[field].copy()}
        changed[field].flat[0] += 1
        write_golden(folder / "golden.npz", Golden(golden.chunk, golden.lengths, changed))
        with pytest.raises(ModelRejected, match=f"{field}.* differs"):
            load_version(folder)


class ForgetsItsClip(TinyDescriber):
    @torch.jit.export
    def clip(self, state: Tensor) -> Tensor:
        return torch.cat([state[:, 1:3], state[:, 3:]], dim=1)  # the sums instead of the means

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        steps, state = self.step(waveform, lengths, self.initial_state(waveform.shape[0], 0, 0))
        return self.clip(state) / 2, steps, (lengths + 399) // 400


def test_a_clip_that_is_not_the_steps_clip_is_refused(tmp_path: Path):
    with pytest.raises(ModelRejected, match="the clip after steps differs"):
        load_version(write_describer(tmp_path, ForgetsItsClip()))


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("tiny-describer", {"dimension": 4}, "3 values for a clip, the manifest has 4"),
        ("tiny-describer", {"step_dimension": 3}, "2 values for a step, the manifest has 3"),
        ("tiny-describer", {"num_mels": 5}, "4 mel bands, the manifest has 5"),
        ("tiny-describer", {"hop_seconds": 0.1}, r"steps are 0\.05 s apart, the manifest says 0\.1"),
        ("tiny-hearer", {"labels": ["a"]}, "2 logits, the manifest has 1 labels"),
    ],
)
def test_the_manifest_of_a_listener_says_what_it_answers(
    others: Path, tmp_path: Path, name: str, changes: dict[str, Any], reason: str
):
    folder = shutil.copytree(others / name / "1", tmp_path / name / "1")
    output = json.loads((folder / "manifest.json").read_text())["output"]
    edit_manifest(folder, output=output | changes)
    with pytest.raises(ModelRejected, match=reason):
        load_version(folder)


@pytest.mark.parametrize("field", ["step_lengths", "log_mel_lengths", "clip"])
def test_a_golden_output_that_is_missing_is_named(others: Path, tmp_path: Path, field: str):
    folder = shutil.copytree(others / "tiny-describer" / "1", tmp_path / "tiny-describer" / "1")
    golden = read_golden(folder / "golden.npz")
    rest = {name: output for name, output in golden.outputs.items() if name != field}
    write_golden(folder / "golden.npz", Golden(golden.chunk, golden.lengths, rest))
    with pytest.raises(ModelRejected, match=f"golden.npz has no {field}"):
        load_version(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"now": np.array(["a", "b"])}, "outputs must be numbers"),
        ({"lengths": np.array(["5", "3"])}, "lengths must be"),
        ({"lengths": np.array([5.0, 3.0])}, "lengths must be"),
        ({"lengths": np.array([5, 3, 1])}, "lengths must be"),
    ],
)
def test_a_golden_of_another_kind_is_refused(folder: Path, changes: dict[str, np.ndarray], reason: str):
    with np.load(folder / "golden.npz") as golden:
        arrays = {**golden, **changes}
    np.savez(folder / "golden.npz", **arrays)
    with pytest.raises(ModelRejected, match=reason):
        load_version(folder)


@pytest.mark.parametrize("share", [0, 0.5, 0.9])
def test_a_truncated_golden_is_refused(folder: Path, share: float):
    content = (folder / "golden.npz").read_bytes()
    (folder / "golden.npz").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelRejected, match=r"golden\.npz cannot be read"):
        load_version(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"output": {"labels": ["a", "b"]}}, "3 logits, the manifest has 2 labels"),
        ({"state_size": 11}, "12 values, the manifest says 11"),
        ({"version": "2"}, "says that this is tiny version 2"),
        ({"name": "other"}, "says that this is other version 1"),
        ({"summry": "a typo"}, "summry"),
        ({"sha256": "0" * 64}, "its manifest says 0000"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(folder: Path, changes: dict[str, Any], reason: str):
    edit_manifest(folder, **changes)
    with pytest.raises(ModelRejected, match=reason):
        load_version(folder)


def test_golden_frames_have_the_size_of_the_input(folder: Path):
    wanted = json.loads((folder / "manifest.json").read_text())["input"]
    edit_manifest(folder, input=wanted | {"width": 33})
    with pytest.raises(ModelRejected, match="32x24, the manifest says 33x24"):
        load_version(folder)


def test_versions_are_compared_as_numbers(tmp_path: Path):
    for version in ("10", "2", "1"):
        write_version(tmp_path, version=version)
    assert list_versions(tmp_path, "tiny") == ["1", "2", "10"]
    store = open_store(tmp_path)
    assert store.versions("tiny") == ["1", "2", "10"]
    assert store.get("tiny").manifest.version == "10"
    assert store.get("tiny", "2").manifest.version == "2"


def test_no_version_of_a_model_that_is_not_there(tmp_path: Path):
    assert list_versions(tmp_path, "tiny") == []


def test_folders_that_are_still_written_are_passed_over(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / ".publish-x" / "1")
    shutil.copytree(folder, folder.parent / ".2")
    (tmp_path / "README.md").write_text("not a model")
    assert list_names(tmp_path) == ["tiny"]
    assert list_versions(tmp_path, "tiny") == ["1"]


@pytest.mark.parametrize("stray", ["Tiny", "tiny/v2", "tiny/01"])
def test_a_folder_with_a_wrong_name_is_refused(folder: Path, tmp_path: Path, stray: str):
    (tmp_path / stray).mkdir()
    with pytest.raises(ModelRejected, match="a folder here must be"):
        open_store(tmp_path)


def test_one_bad_version_refuses_the_store_and_is_named(tmp_path: Path):
    write_version(tmp_path)
    (write_version(tmp_path, version="2") / "model.pt").write_bytes(b"")
    with pytest.raises(ModelRejected, match=r"tiny/2: model\.pt"):
        open_store(tmp_path)


def test_a_subset_leaves_the_others_unread(tmp_path: Path):
    write_version(tmp_path, "good")
    (write_version(tmp_path, "bad") / "model.pt").write_bytes(b"")
    assert open_store(tmp_path, ["good"]).names() == ["good"]
    with pytest.raises(ModelRejected, match="no model 'gone'; there are: bad, good"):
        open_store(tmp_path, ["good", "gone"])


def test_a_pinned_version_is_loaded_alone(tmp_path: Path):
    for version in ("1", "2", "3"):
        write_version(tmp_path, version=version)
    write_version(tmp_path, "other")
    store = open_store(tmp_path, ["tiny@2", "other"])
    assert store.versions("tiny") == ["2"]
    assert store.get("tiny").manifest.version == "2"
    assert open_store(tmp_path, ["tiny@1", "tiny@3"]).versions("tiny") == ["1", "3"]
    with pytest.raises(ModelRejected, match="no version '4' of tiny; there are: 1, 2, 3"):
        open_store(tmp_path, ["tiny@4"])
    with pytest.raises(ModelRejected, match="no model 'gone@4'; there are: other, tiny"):
        open_store(tmp_path, ["gone@4"])


class Loads(nn.Module):
    def forward(self, path: str) -> Tensor:
        return torch.from_file(path, shared=True, size=4)


class Saves(nn.Module):
    def forward(self, path: str) -> None:
        torch.ops.aten.save(torch.zeros(1), path)


@pytest.mark.parametrize(("module", "operator"), [(Loads(), "from_file"), (Saves(), "save")])
def test_a_module_that_reaches_for_files_is_refused_before_it_is_loaded(folder: Path, module: nn.Module, operator: str):
    replace_model(folder, module)
    with pytest.raises(ModelRejected, match=f"model.pt calls {operator}"):
        load_version(folder)


def test_a_store_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ModelRejected, match="no such model store"):
        open_store(tmp_path / "gone")


def test_without_a_name_the_default_is_meant(tmp_path: Path):
    write_version(tmp_path, "second")
    write_version(tmp_path, "first")
    assert open_store(tmp_path).get(task="classify").manifest.name == "first"
    assert open_store(tmp_path, defaults={"classify": "second"}).get(task="classify").manifest.name == "second"
    with pytest.raises(ModelRejected, match="gone"):
        open_store(tmp_path, defaults={"classify": "gone"})


def test_a_general_model_goes_before_those_with_classes_of_their_own(tmp_path: Path):
    write_version(tmp_path, "first")
    write_late(tmp_path, 0, general=True)
    assert open_store(tmp_path).get(task="classify").manifest.name == "tiny-late-0"
    assert open_store(tmp_path, defaults={"classify": "first"}).get(task="classify").manifest.name == "first"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gone"}, "There is no model 'gone'; there are: other, tiny."),
        ({"name": "../tiny"}, "There is no model '../tiny'; there are: other, tiny."),
        ({"name": "tiny", "version": "2"}, "Model tiny has no version '2'; there are: 1."),
        ({"name": "tiny", "version": "../1"}, "Model tiny has no version '../1'; there are: 1."),
        ({"name": "tiny", "task": "predict"}, "Model tiny is for classify, not for predict; there are: none."),
        ({"task": "predict"}, "No model for predict is served."),
        ({"name": "\n" + "x" * 100}, f"There is no model '\\n{'x' * 60}...'; there are: other, tiny."),
    ],
)
def test_an_unknown_model_says_what_there_is(two_models: ModelStore, arguments: dict[str, str], message: str):
    with pytest.raises(UnknownModel) as caught:
        two_models.get(**arguments)
    assert str(caught.value) == message


def test_an_empty_store_serves_nothing(tmp_path: Path):
    store = open_store(tmp_path)
    assert store.models() == []
    with pytest.raises(UnknownModel, match="No model is served"):
        store.get()
