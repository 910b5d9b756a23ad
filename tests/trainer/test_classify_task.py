import copy
from collections.abc import Sequence
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.jit import ScriptModule
from torch.utils.data import DataLoader

from app.models import torchscript
from trainer.data.cache import CachedVideo
from trainer.networks.recurrent import Cell
from trainer.recipe.classify import ClassifyRecipe
from trainer.recipe.reading import RECIPES, RecipeError, read_recipe
from trainer.tasks.augment import augment
from trainer.tasks.classify import Batch, ClassifyTask
from trainer.tasks.clips import DrawSampler, ServedClips, TrainingClips
from trainer.tasks.teachers import Teachers

TINY = (
    "input.width=32",
    "input.height=24",
    "input.clip_length=4",
    "cache.width=40",
    "cache.height=30",
    "network.num_channels=[8, 16]",
    "network.blocks_per_stage=0",
    "network.size=16",
    "network.num_heads=2",
    "network.dropout=0",
    "sampling.clip_length=4",
    "budget.batch_size=4",
    "budget.precision=32-true",
)
PLAIN = (
    "augmentation.min_area=1",
    "augmentation.max_aspect=1",
    "augmentation.flip=0",
    "augmentation.brightness=0",
    "augmentation.contrast=0",
    "augmentation.saturation=0",
    "augmentation.tint=0",
    "augmentation.grey=0",
    "augmentation.erase=0",
    "augmentation.mixup=0",
)


def tiny_recipe(*overrides: str) -> ClassifyRecipe:
    return read_recipe(RECIPES / "actions.yaml", (*TINY, *overrides), ClassifyRecipe)


def make_videos(num_videos: int, num_labels: int = 2, num_frames: int = 24) -> list[CachedVideo]:
    """Noise of one colour per label, dark to light in time."""
    generator = np.random.default_rng(0)
    colours = generator.integers(60, 200, (num_labels, 3))
    videos = []
    for index in range(num_videos):
        label = index % num_labels
        noise = generator.integers(-20, 20, (num_frames, 30, 40, 3))
        light = np.arange(num_frames).reshape(-1, 1, 1, 1)
        frames = (colours[label] + noise + light).clip(0, 255).astype(np.uint8)
        clip = frames[:: num_frames // 4][:4, :24, :32].copy()
        videos.append(CachedVideo(f"{index}.mp4", label, str(index), frames, clip))
    return videos


def fit(task: ClassifyTask, videos: Sequence[CachedVideo], max_epochs: int) -> lightning.Trainer:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    sampler = DrawSampler(len(videos), seed=0)
    clips = TrainingClips(videos, task.recipe, seed=0)
    trainer.fit(
        task,
        DataLoader(clips, batch_size=4, sampler=sampler),
        DataLoader(ServedClips(videos), batch_size=4),
    )
    return trainer


def make_batch(recipe: ClassifyRecipe) -> Batch:
    clips = TrainingClips(make_videos(4), recipe, seed=0)
    frames, labels, lengths = zip(*(clips[index] for index in range(4)), strict=True)
    return torch.stack(frames), torch.stack(labels), torch.tensor(lengths)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*isinstance\\(treespec, LeafSpec\\).*")
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_tiny_batch_is_learnt_by_heart_and_the_average_is_what_counts(cell: Cell) -> None:
    lightning.seed_everything(0, verbose=False)
    recipe = tiny_recipe(
        *PLAIN,
        "optimisation.learning_rate=0.01",
        "optimisation.ema_decay=0.8",
        "optimisation.label_smoothing=0",
        "optimisation.forecast_weight=0.1",
        "sampling.splice_share=0",
    )
    videos = make_videos(8)
    task = ClassifyTask(recipe, cell, [4, 4])
    before = copy.deepcopy(task.module())

    trainer = fit(task, videos, max_epochs=12)

    assert trainer.callback_metrics["val_accuracy"] == 1.0
    assert trainer.callback_metrics["gradient_norm"] > 0
    module = task.module()
    logits = module(torch.from_numpy(np.stack([video.clip for video in videos])), torch.full((8,), 4))
    assert (logits.argmax(1) == torch.tensor([video.label for video in videos])).all()
    assert not module.training
    assert not any("forecast" in name for name in module.state_dict())
    # The average lags behind the last weights, and both have left where they began.
    for name, average in module.named_parameters():
        assert not torch.equal(average, before.get_parameter(name)), name
        assert not torch.equal(average, task.network.get_parameter(name)), name


def test_no_averaging_exports_the_last_weights() -> None:
    task = ClassifyTask(tiny_recipe("optimisation.ema_decay=0"), "gru", [1, 1])
    with torch.no_grad():
        for parameter in task.network.parameters():
            parameter.add_(1.0)
    task.on_train_batch_end(None, make_batch(task.recipe), 0)
    for name, parameter in task.module().named_parameters():
        assert torch.equal(parameter, task.network.get_parameter(name)), name


def total_loss(task: ClassifyTask, batch: Batch) -> Tensor:
    torch.manual_seed(0)
    return torch.stack(list(task.losses(batch).values())).sum()


@pytest.mark.parametrize("overrides", [(), ("optimisation.forecast_weight=0.5",)], ids=["plain", "composite"])
def test_a_step_reaches_every_weight(overrides: tuple[str, ...]) -> None:
    recipe = tiny_recipe(*overrides)
    task = ClassifyTask(recipe, "lstm", [2, 2])
    total_loss(task, make_batch(recipe)).backward()
    trained = {name: p for name, p in task.named_parameters() if not name.startswith("averaged.")}
    assert any(name.startswith("forecaster.") for name in trained) == bool(overrides)
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_carried_state_is_judged_by_the_moment_alone() -> None:
    recipe = tiny_recipe("optimisation.carry_share=1")
    task = ClassifyTask(recipe, "gru", [2, 2])
    batch = make_batch(recipe)
    total_loss(task, batch)  # from nothing: it leaves a state
    assert task.carried is not None
    assert not task.carried.requires_grad
    total_loss(task, batch).backward()
    assert all(parameter.grad is None for parameter in task.network.so_far.parameters())
    assert all(parameter.grad is not None for parameter in task.network.now.parameters())


def test_padding_is_not_learnt_from() -> None:
    recipe = tiny_recipe(*PLAIN, "optimisation.carry_share=0", "optimisation.forecast_weight=0")
    task = ClassifyTask(recipe, "gru", [2, 2])
    task.network.frame_encoder.eval()  # in training its norm sees the whole batch; training clips are never padded
    frames, labels, _ = make_batch(recipe)
    lengths = torch.full((4,), 2)
    loss = total_loss(task, (frames, labels, lengths))
    other_labels = torch.cat((labels[:, :2], 1 - labels[:, 2:]), dim=1)
    other_frames = torch.cat((frames[:, :2], 255 - frames[:, 2:]), dim=1)
    assert total_loss(task, (other_frames, other_labels, lengths)) == loss


def test_it_starts_from_weights_that_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.pt"
    model.write_bytes(torchscript.save(teacher(0)))
    torch.manual_seed(1)
    task = ClassifyTask(tiny_recipe(), "lstm", [2, 2, 2])  # a label more
    task.start_from(model)
    before, after = torchscript.weights(model.read_bytes()), task.module().state_dict()
    differing = {name for name in before if before[name].shape != after[name].shape}
    assert {name.split(".")[0] for name in differing} == {"now", "so_far"}
    for name in before.keys() - differing:
        assert torch.equal(before[name], after[name]), name
    said = capsys.readouterr().err
    assert f"{model}: {len(before) - len(differing)} of {len(before)} tensors taken; not: now." in said
    with pytest.raises(RecipeError, match=r"README\.md is not a model"):
        task.start_from(Path("README.md"))
    with pytest.raises(RecipeError, match="no weights that fit"):
        ClassifyTask(tiny_recipe("network.num_channels=[3]", "network.size=6"), "gru", [1, 1, 1, 1]).start_from(model)


def teacher(seed: int) -> ScriptModule:
    torch.manual_seed(seed)
    return torchscript.script(ClassifyTask(tiny_recipe(), "lstm", [2, 2]).module())


def test_teachers_answer_with_the_mean_of_what_each_says_of_the_pictures() -> None:
    modules = [teacher(0), teacher(1)]
    frames, _, lengths = make_batch(tiny_recipe())
    frames = frames[:, :, :24, :32]
    pictures = frames.permute(0, 1, 4, 2, 3).float() / 255
    now, so_far = Teachers([torchscript.save(module) for module in modules])(pictures, lengths)
    each = [module.step(frames, lengths, module.initial_state(4, 24, 32))[0] for module in modules]
    torch.testing.assert_close(now, (each[0][0].softmax(2) + each[1][0].softmax(2)) / 2)
    torch.testing.assert_close(so_far, (each[0][1].softmax(2) + each[1][1].softmax(2)) / 2)


@pytest.mark.parametrize(("weight", "label_counts"), [(0, True), (1, False)])
def test_a_pupil_weighs_its_teachers_against_the_labels(weight: int, label_counts: bool) -> None:
    recipe = tiny_recipe(f"optimisation.teacher_weight={weight}", "optimisation.carry_share=0")
    torch.manual_seed(2)
    task = ClassifyTask(recipe, "gru", [2, 2], Teachers([torchscript.save(teacher(0))]))
    frames, labels, lengths = make_batch(recipe)
    loss = total_loss(task, (frames, labels, lengths))
    assert (total_loss(task, (frames, 1 - labels, lengths)) != loss) == label_counts
    task.teachers = None
    assert (total_loss(task, (frames, labels, lengths)) == loss) == label_counts


def test_balanced_classes_count_alike() -> None:
    task = ClassifyTask(tiny_recipe("optimisation.class_weights=balanced"), "gru", [30, 10])
    torch.testing.assert_close(task.class_weights * torch.tensor([30.0, 10.0]), torch.tensor([20.0, 20.0]))


def test_a_draw_is_the_same_whenever_it_is_drawn() -> None:
    recipe = tiny_recipe()
    videos = make_videos(6)
    first, again = TrainingClips(videos, recipe, seed=3), TrainingClips(videos, recipe, seed=3)
    assert torch.equal(first[13][0], again[13][0])
    assert not torch.equal(first[13][0], TrainingClips(videos, recipe, seed=4)[13][0])
    assert any(not torch.equal(first[index][0], first[index + 6][0]) for index in range(6))


def test_an_epoch_draws_each_video_once_and_the_next_epoch_draws_anew() -> None:
    sampler = DrawSampler(5, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == [0, 1, 2, 3, 4]
    assert sorted(second) == [5, 6, 7, 8, 9]


def test_uniform_clips_span_the_video_and_rate_clips_keep_their_spacing() -> None:
    numbered = np.broadcast_to(np.arange(200, dtype=np.uint8).reshape(-1, 1, 1, 1), (200, 30, 40, 3)).copy()
    videos = [CachedVideo("a.mp4", 0, "a", numbered, numbered[:4])]

    def places(*overrides: str) -> list[list[int]]:
        clips = TrainingClips(videos, tiny_recipe("input.rate=4", "cache.rate=8", *overrides), seed=0)
        return [clips[draw][0][:, 0, 0, 0].tolist() for draw in range(40)]

    for spread in places("sampling.rate_share=0", "sampling.splice_share=0"):
        assert [place // 50 for place in spread] == [0, 1, 2, 3]
    at_rate = places("sampling.rate_share=1", "sampling.splice_share=0", "sampling.rate_jitter=1")
    assert all(np.diff(chosen).tolist() == [2, 2, 2] for chosen in at_rate)
    assert len({chosen[0] for chosen in at_rate}) > 10
    over_keys = places("sampling.rate_share=0", "sampling.splice_share=0", "sampling.key_share=1")
    assert {len(set(chosen)) for chosen in over_keys} == {2, 3, 4}
    for chosen in over_keys:
        between = np.diff(chosen)
        assert any(np.all(np.abs(between / gap - np.rint(between / gap)) < 0.05) for gap in (200 / 2, 200 / 3, 200 / 4))


def test_labels_follow_the_splice() -> None:
    black, white = (np.full((24, 30, 40, 3), value, dtype=np.uint8) for value in (0, 255))
    videos = [CachedVideo("b.mp4", 0, "b", black, black[:4]), CachedVideo("w.mp4", 1, "w", white, white[:4])]
    clips = TrainingClips(videos, tiny_recipe("sampling.splice_share=1", "sampling.rate_share=0"), seed=0)
    drawn = [clips[draw] for draw in range(20)]
    for frames, labels, length in drawn:
        assert length == 4
        assert torch.equal((frames[:, 0, 0, 0] == 255).long(), labels)
    assert any(labels[0] != labels[-1] for _, labels, _ in drawn)


def test_a_video_of_one_frame_gives_a_clip() -> None:
    frames = np.zeros((1, 30, 40, 3), dtype=np.uint8)
    clips = TrainingClips([CachedVideo("a.mp4", 0, "a", frames, frames)], tiny_recipe(), seed=0)
    assert all(clips[draw][0].shape == (4, 30, 40, 3) for draw in range(10))


def test_no_augmentation_is_a_plain_resize() -> None:
    recipe = tiny_recipe(*PLAIN)
    frames = torch.randint(0, 256, (2, 3, 24, 32, 3), dtype=torch.uint8)
    pictures = augment(frames, 24, 32, recipe.augmentation)
    # 1e-5: the sampling grid is computed in float32.
    torch.testing.assert_close(pictures, frames.permute(0, 1, 4, 2, 3) / 255.0, atol=1e-5, rtol=0)


def test_all_frames_of_a_clip_change_alike_and_clips_differ() -> None:
    frame = torch.randint(0, 256, (1, 1, 30, 40, 3), dtype=torch.uint8)
    torch.manual_seed(0)
    pictures = augment(frame.expand(3, 4, 30, 40, 3), 24, 32, tiny_recipe().augmentation)
    assert pictures.shape == (3, 4, 3, 24, 32)
    assert 0 <= pictures.min() <= pictures.max() <= 1
    assert torch.equal(pictures[:, :1].expand_as(pictures), pictures)
    assert not torch.equal(pictures[0], pictures[1])


def test_flipping_mirrors() -> None:
    recipe = tiny_recipe(*PLAIN, "augmentation.flip=1")
    frames = torch.randint(0, 256, (1, 1, 24, 32, 3), dtype=torch.uint8)
    pictures = augment(frames, 24, 32, recipe.augmentation)
    expected = frames.permute(0, 1, 4, 2, 3).flip(4) / 255.0
    torch.testing.assert_close(pictures, expected, atol=1e-5, rtol=0)  # the grid's float32


@pytest.mark.parametrize("name", ["actions", "motion", "classify"])
def test_every_recipe_of_ours_is_valid_and_small_enough(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml", (), ClassifyRecipe)
    module = ClassifyTask(recipe, "lstm", [1] * 6).module()
    num_parameters = sum(parameter.numel() for parameter in module.parameters())
    assert num_parameters < 3_000_000
    assert 4 * num_parameters < 8_000_000  # bytes of float32 in model.pt
    assert recipe.cache.width >= recipe.input.width
    assert recipe.cache.height >= recipe.input.height


def test_overrides_replace_what_the_file_says() -> None:
    recipe = read_recipe(
        RECIPES / "actions.yaml",
        ["optimisation.learning_rate=1e-3", "network.num_channels=[8, 16]", "network.differences=false"],
        ClassifyRecipe,
    )
    assert recipe.optimisation.learning_rate == 1e-3
    assert recipe.network.num_channels == (8, 16)
    assert recipe.network.differences is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimisation.learning_rat=1", "learning_rat"),
        ("optimization.learning_rate=1", "optimization"),
        ("learning_rate=1", "section.key=value"),
        ("optimisation.learning_rate", "section.key=value"),
        ("optimisation.learning_rate=fast", "learning_rate"),
        ("optimisation.warmup=2", "warmup"),
        ("network.num_channels=[0]", "greater"),
        ("network.num_channels=[8", "not YAML"),
        ("sampling.rate_share=0.9", "exceed 1"),
    ],
)
def test_what_a_recipe_does_not_know_is_an_error(override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(RECIPES / "actions.yaml", [override], ClassifyRecipe)


@pytest.mark.parametrize("content", ["[1, 2]", "input: {", "input: 3"])
def test_a_file_that_is_no_recipe_is_an_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"broken\.yaml"):
        read_recipe(path, (), ClassifyRecipe)
