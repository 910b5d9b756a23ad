"""How well a linear classifier does on vectors of whole sounds: ours and those of other descriptions.

The probe is the same for all: standardisation, then logistic regression whose strength is chosen by cross-validation on
the training set.

python -m bench.probe --module runs/audio-features/model.pt --fsdd fsdd.csv --ravdess ravdess.csv --opensmile
python -m bench.probe --fsdd fsdd.csv --sounds sounds.csv --recipe trainer/recipes/audio-features.yaml

The second trains the describer of sound once for each speaker of FSDD, without that speaker, as `python -m trainer`
does. It needs the extra `bench`; openSMILE is for research only.
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler

from app.models import torchscript
from bench.cross_validation import train_without
from bench.descriptions import DESCRIBERS, describe
from trainer.data.listing import Video, read_listing
from trainer.data.sounds import CachedSound, decode_sounds, open_sound
from trainer.tables import percent, table

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""C of scikit-learn."""
NUM_FOLDS = 3
MAX_DEVIATIONS = 10.0
"""Standardised values are clipped to this: some openSMILE functionals of short sounds are off by thousands."""
OURS = "audio-features"


@dataclass(frozen=True, slots=True)
class Sounds:
    """One data set."""

    name: str
    sounds: list[CachedSound]
    labels: NDArray[np.str_]
    is_test: NDArray[np.bool_]
    speakers: NDArray[np.str_]
    digest: str
    """Of the content of all sounds, in order."""


def speaker_of(video: Video) -> str:
    """3_theo_12.wav -> theo; of other data sets, the group."""
    parts = video.path.stem.split("_")
    return parts[1] if len(parts) == 3 and parts[0].isdigit() and parts[2].isdigit() else video.group


def read_sounds(name: str, path: Path, cache: Path) -> Sounds:
    """The sounds of a CSV whose speaker is the group (RAVDESS) or in the file's name (FSDD)."""
    decoded = decode_sounds(read_listing(path), 16_000, cache).decoded
    videos = [item.video for item in decoded]
    return Sounds(
        name,
        [open_sound(item) for item in decoded],
        np.array([video.label for video in videos]),
        np.array([video.split == "test" for video in videos]),
        np.array([speaker_of(video) for video in videos]),
        hashlib.sha256("".join(item.samples.stem for item in decoded).encode()).hexdigest(),
    )


def probe(
    features: NDArray[np.float32], data: Sounds, is_test: NDArray[np.bool_], folds: NDArray[np.int64]
) -> tuple[float, float]:
    """Macro recall on the test set, and the strength that cross-validation chose. `folds`: (N,) of each sound."""
    train = ~is_test
    scaler = StandardScaler().fit(features[train])
    scaled = np.clip(scaler.transform(features), -MAX_DEVIATIONS, MAX_DEVIATIONS)
    if scaled.shape[1] > train.sum():  # rotated into the space that the training set spans, which keeps all products
        scaled = scaled @ np.linalg.svd(scaled[train], full_matrices=False)[2].T
    labels = data.labels

    def recall(fitted: NDArray[np.bool_], judged: NDArray[np.bool_], strength: float) -> float:
        model = LogisticRegression(C=strength, max_iter=300, tol=1e-3).fit(scaled[fitted], labels[fitted])
        return float(recall_score(labels[judged], model.predict(scaled[judged]), average="macro"))

    def validated(strength: float) -> float:
        parts = [(train & (folds != fold), train & (folds == fold)) for fold in range(NUM_FOLDS)]
        return float(np.mean([recall(fitted, judged, strength) for fitted, judged in parts]))

    best = max(STRENGTHS, key=validated)
    return recall(train, is_test, best), best


def folds_by_speaker(data: Sounds, is_test: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,): no speaker is in two folds."""
    order = sorted(set(data.speakers[~is_test]))
    return np.array([order.index(speaker) % NUM_FOLDS if speaker in order else -1 for speaker in data.speakers])


def folds_by_sound(data: Sounds) -> NDArray[np.int64]:
    """(N,): sounds in turn."""
    return np.arange(len(data.sounds)) % NUM_FOLDS


class Described:
    """Features by description and data set, kept in the cache: openSMILE takes minutes."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def features(self, name: str, data: Sounds) -> NDArray[np.float32]:
        """(N,D)"""
        path = self.cache / f"{data.name}-{name}-{data.digest[:16]}.npy"
        if not path.exists():
            np.save(path, np.array([DESCRIBERS[name](sound.waveform) for sound in data.sounds], np.float32))
        found: NDArray[np.float32] = np.nan_to_num(np.load(path))
        return found


def speaker_rows(
    data: Sounds, names: list[str], described: Described, module: Callable[[int, str], Any]
) -> dict[str, list[float]]:
    """By description, the recall on each speaker of a probe that was fitted to all others.

    `module`: gives our module that was trained without a speaker, from the speaker and their number.
    """
    found: dict[str, list[float]] = {name: [] for name in [*names, OURS]}
    for number, speaker in enumerate(sorted(set(data.speakers)), 1):
        is_test = data.speakers == speaker
        folds = folds_by_speaker(data, is_test)
        for name, recalls in found.items():
            features = (
                describe(module(number, speaker), data.sounds) if name == OURS else described.features(name, data)
            )
            recalls.append(probe(features, data, is_test, folds)[0])
            print(f"without {speaker}: {name} {percent(recalls[-1])}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fsdd", type=Path, help="CSV with the official split")
    parser.add_argument("--ravdess", type=Path, help="CSV with the actor as group")
    parser.add_argument("--module", type=Path, help="model.pt to judge on the given splits")
    parser.add_argument("--sounds", type=Path, help="CSV that `train features` took: each speaker is left out in turn")
    parser.add_argument("--recipe", type=Path, help="of `train features`, for the same")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="for the same")
    parser.add_argument("--cell", default="gru")
    parser.add_argument("--opensmile", action="store_true", help="beside openSMILE's eGeMAPSv02 and ComParE, too")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--runs", type=Path, default=Path("runs/probe"), help="where the six trainings are kept")
    parser.add_argument("--output", type=Path, help="JSON of all figures")
    options = parser.parse_args()
    if options.sounds and not (options.fsdd and options.recipe):
        parser.error("--sounds needs --fsdd and --recipe")
    torch.set_num_threads(1)
    names = [name for name in DESCRIBERS if options.opensmile or not name.startswith("openSMILE")]
    described = Described(options.cache)
    rows: dict[str, dict[str, float]] = {}
    sets = [read_sounds(name, path, options.cache) for name, path in _paths(options).items()]
    if options.module:
        module = torchscript.load(options.module.read_bytes())
        for data in sets:
            folds = folds_by_sound(data) if data.name == "fsdd" else folds_by_speaker(data, data.is_test)
            row = rows[f"{data.name}, its test split"] = {}
            for name in [*names, OURS]:
                features = describe(module, data.sounds) if name == OURS else described.features(name, data)
                row[name], strength = probe(features, data, data.is_test, folds)
                print(f"{data.name}: {name} ({features.shape[1]}) {percent(row[name])}, C {strength:g}", flush=True)
    if options.sounds:
        fsdd = next(data for data in sets if data.name == "fsdd")
        found = speaker_rows(fsdd, names, described, partial(_module_without, options))
        rows["fsdd, each speaker left out"] = {name: float(np.mean(recalls)) for name, recalls in found.items()}
    told = [
        ["set", *names, OURS],
        *([name, *(percent(row[key]) for key in [*names, OURS])] for name, row in rows.items()),
    ]
    print(table(told))
    if options.output:
        options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _module_without(options: argparse.Namespace, number: int, speaker: str) -> Any:
    """The describer of sound that has never heard the speaker: its training leaves out `test`."""
    arguments = ["--recipe", str(options.recipe), "--cell", options.cell, "--cache", str(options.cache)]
    arguments += ["--val-fraction", "0.02", *(part for setting in options.set for part in ("--set", setting))]
    videos = [video for video in read_listing(options.sounds) if video.split != "test"]
    left_out = [video for video in videos if speaker_of(video) == speaker]
    folder = options.runs / str(number)
    train_without("features", left_out, videos, folder, arguments)
    return torchscript.load((folder / "model.pt").read_bytes())


def _paths(options: argparse.Namespace) -> dict[str, Path]:
    named = {"fsdd": options.fsdd, "ravdess": options.ravdess}
    return {name: path for name, path in named.items() if path}


if __name__ == "__main__":
    main()
