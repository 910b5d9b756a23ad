"""Plans the training of a describer of sound, whatever labels the sounds have."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.jit import ScriptModule

from app.models.manifest import FeaturesOutput, Input
from trainer.data.golden_sound import draw_sound
from trainer.data.rows import InvalidListing
from trainer.data.sounds import CachedSound, SoundSet, decode_sounds, list_unlabelled
from trainer.data.splits import kept_apart, split_by_group
from trainer.networks.log_mel import HOP, NUM_MELS
from trainer.networks.sound_encoder import SoundEncoder
from trainer.pictures import draw_spectrograms
from trainer.plan import Plan, PlanOptions, Report, check_alone
from trainer.plans.evaluating import NOTHING_HELD_BACK
from trainer.progress import progress
from trainer.recipe.features import FeaturesRecipe
from trainer.tables import table
from trainer.tasks.features import FeaturesTask
from trainer.tasks.waveforms import training_loader, whole_loader

GOLDEN_STEPS = (12, 7)
"""Steps of each golden sound: one is padded, and its last step is incomplete."""
SHOWN_SECONDS = 4.0
COMPONENT_SECONDS = 10.0
"""How much of each sound is used to find the components."""


def plan_features(recipe: FeaturesRecipe, options: PlanOptions) -> Plan:
    """The training of a SoundEncoder. Does not even decode what is marked `test`. Raises InvalidListing."""
    check_alone(options)
    if options.data.test_data or options.data.test_fraction:
        raise InvalidListing("a describer of sound has no test set: leave out --test-data and --test-fraction")
    found = list_unlabelled(options.data.data, options.data.group_pattern)
    listed = [video for video in found if video.split != "test"]
    videos = split_by_group(listed, options.data.val_fraction)
    sample_rate = recipe.input.sample_rate
    data = decode_sounds(videos, sample_rate, options.data.cache, options.data.num_processes)
    data.tell_broken()
    train, val = data.opened("train"), data.opened("val")
    if not train:
        raise InvalidListing(f"none of the {len(videos)} files to train on has sound")
    learner = FeaturesTask(recipe, options.cell)
    encoder, part_samples = learner.network, round(recipe.input.part_seconds * sample_rate)
    batch_size = recipe.budget.batch_size
    golden = draw_sound(max(GOLDEN_STEPS) * encoder.step_samples)
    return Plan(
        learner=learner,
        train=training_loader(train, part_samples, batch_size, options.seed),
        val=whole_loader(val, part_samples, batch_size) if val else None,
        input=Input(media="audio", sample_rate=sample_rate, step_samples=encoder.step_samples),
        output=FeaturesOutput(
            dimension=encoder.dimension,
            step_dimension=encoder.size,
            hop_seconds=encoder.step_samples / sample_rate,
            num_mels=NUM_MELS,
            log_mel_hop_seconds=HOP / sample_rate,
        ),
        golden=(golden, np.array([steps * encoder.step_samples - 300 * row for row, steps in enumerate(GOLDEN_STEPS)])),
        summary="Describes sound by vectors, learnt without labels: one for every 40 ms and one for all of it.",
        num_examples=data.num_sounds(),
        kept_apart=kept_apart(videos),
        headline="reconstruction",
        evaluate=lambda module, folder: _evaluate(module, learner, data, part_samples, folder),
        finish=lambda network: _find_components(network, train, round(COMPONENT_SECONDS * sample_rate)),
    )


def _find_components(encoder: SoundEncoder, sounds: Sequence[CachedSound], max_samples: int) -> None:
    """Fits the encoder's components to its summaries of the beginnings of all sounds."""
    batches, summaries = whole_loader(sounds, max_samples, 32), []
    with torch.inference_mode():
        for waveform, lengths, _ in progress(batches, len(batches), "finding components"):
            summaries.append(encoder.summary(encoder.listen(waveform, lengths)[1]))
    encoder.components.fit(torch.cat(summaries))


def _evaluate(module: ScriptModule, learner: FeaturesTask, data: SoundSet, part_samples: int, folder: Path) -> Report:
    """How well sounds can be reconstructed from the averaged network's bottleneck, which is not served."""
    name, sounds = ("val", data.opened("val")) if data.opened("val") else ("train", data.opened("train"))
    loss, count = 0.0, 0
    learner.eval()
    with torch.inference_mode():
        for waveform, lengths, _ in whole_loader(sounds, part_samples, 64):
            loss += float(learner.reconstruction_error(waveform, lengths)) * len(lengths)
            count += len(lengths)
    shown = max(sounds[:64], key=lambda sound: min(len(sound.waveform), SHOWN_SECONDS * 16_000))
    _draw(module, learner, shown, folder)
    metrics = {"reconstruction": loss / count, "num_sounds": float(count)}
    rows = [["set", "sounds", "error of reconstruction"], [name, str(count), f"{metrics['reconstruction']:.3f}"]]
    return Report(
        metrics={name: metrics},
        text=f"{table(rows)}\n\nMean squared error of log-mel, normalised and centred; half of the true steps told.",
        limits=(
            f"What is not heard in the {data.num_sounds()['train']} files it was trained on, it knows nothing of.",
            "The first steps of a sound are judged as after silence.",
            *((NOTHING_HELD_BACK,) if name == "train" else ()),
        ),
    )


def _draw(module: ScriptModule, learner: FeaturesTask, sound: CachedSound, folder: Path) -> None:
    waveform = torch.from_numpy(sound.waveform[: round(SHOWN_SECONDS * 16_000)]).unsqueeze(0)
    lengths = torch.tensor([waveform.shape[1]])
    with torch.inference_mode():
        steps = module(waveform, lengths)[1]
        true, found = learner.reconstruct(waveform, lengths)
    spectrograms: dict[str, NDArray[np.float32]] = {
        "log-mel, normalised and centred": true[0].numpy(),
        "reconstructed from the bottleneck and half of the steps": found[0].numpy(),
    }
    draw_spectrograms(spectrograms, HOP / 16_000, folder / "pictures" / "log_mel.png")
    hop_seconds = learner.network.step_samples / 16_000
    draw_spectrograms({"vectors of the steps": steps[0].numpy()}, hop_seconds, folder / "pictures" / "steps.png")
