"""`tune TASK`: tries settings of a recipe, and tells which came out best in validation. No test set is read."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import optuna
from lightning.pytorch.callbacks import Callback
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from trainer.learning_curve import DivergedError
from trainer.plans import read_for
from trainer.recipe.reading import RecipeError, recipe_text
from trainer.recipe.search import Searched, check_key
from trainer.run import RECIPE
from trainer.tables import table
from trainer.tasks.learner import RANK
from trainer.train import Training
from trainer.training import fit

BEST = "best.yaml"
STUDY = "study.log"
STUDY_NAME = "trials"
ADVICE = "this trial is lost, the same command goes on with the others"
_BLIND_SHARE = 0.25
"""Share of a trial's epochs in which it is not given up: a large learning rate shows late what it is worth."""
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """One `tune TASK`."""

    training: Training
    """What each trial is, but for what is searched."""
    searched: tuple[Searched, ...]
    num_trials: int
    """In all, those that are there already included."""
    folder: Path
    """Of all trials."""


class Judged(Callback):
    """Tells the study of each validation, and gives up a trial that is behind the median of the others."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial
        self.score: float | None = None

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.score = float(trainer.callback_metrics[RANK])
        epoch = trainer.current_epoch + 1
        self.trial.report(self.score, epoch)
        if epoch > _BLIND_SHARE * (trainer.max_epochs or 0) and self.trial.should_prune():
            raise optuna.TrialPruned


def tune(options: TuneOptions) -> str:
    """Trains until there are `num_trials`; gives back what to tell the person who waited for it.

    The same command goes on with what is there and, started twice, shares the work. Settings are drawn by a
    tree-structured Parzen estimator (Bergstra et al. 2011). Raises what `train` raises, RecipeError for a key that
    the recipe lacks and where there is nothing to validate on, FileExistsError for a folder of other trials.
    """
    training = options.training
    recipe = read_for(training.task, training.recipe, training.settings)  # before anything is decoded
    for searched in options.searched:
        check_key(searched, recipe)
    study = open_study(options.folder, _asked(options))
    while len(study.get_trials(deepcopy=False, states=_FINISHED)) < options.num_trials:
        study.optimize(lambda trial: _try(trial, options), n_trials=1)
    return _told(study, options.folder)


def _asked(options: TuneOptions) -> list[Any]:
    """What must be the same for trials to be comparable, as JSON has it: the data, the recipe, what is searched."""
    training = options.training
    recipe, plan = training.plan()
    if plan.val is None:
        raise RecipeError("settings are compared in validation, and nothing is left for it: see --val-fraction")
    begun = training.begun(recipe, plan, patience=0, command=None)
    asked = [begun.told_apart_by(), [asdict(one) for one in options.searched]]
    found: list[Any] = json.loads(json.dumps(asked))
    return found


def open_study(folder: Path, asked: list[Any]) -> optuna.Study:
    """The study in `folder`; where nothing came of what was asked for before, another."""
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / STUDY)))
    create = partial(
        optuna.create_study, storage=storage, study_name=STUDY_NAME, direction="maximize", load_if_exists=True
    )
    study = create()
    if study.user_attrs.get("asked", asked) != asked:
        if study.get_trials(deepcopy=False, states=_FINISHED):
            raise FileExistsError(
                f"{folder} has trials of something else: choose another --output, or repeat the command it began with"
            )
        optuna.delete_study(study_name=STUDY_NAME, storage=storage)
        study = create()
    study.set_user_attr("asked", asked)
    return study


def draw(trial: optuna.Trial, searched: Sequence[Searched], seed: int) -> tuple[str, ...]:
    """Settings for a trial, `section.key=value`."""
    # Of the trial's own seed: processes that share the work would all draw the same from one.
    own = np.random.SeedSequence((seed, trial.number))
    trial.study.sampler = optuna.samplers.TPESampler(seed=int(own.generate_state(1)[0]))
    return tuple(one.draw(trial) for one in searched)


def _try(trial: optuna.Trial, options: TuneOptions) -> float:
    """What a training with settings that the trial draws comes to in validation: the more the better."""
    training = options.training
    settings = draw(trial, options.searched, training.seed)
    trial.set_user_attr("settings", list(settings))
    recipe, plan = replace(training, settings=(*training.settings, *settings)).plan()
    own = options.folder / f"trial-{trial.number}"
    own.mkdir(exist_ok=True)
    (own / RECIPE).write_text(recipe_text(recipe), encoding="utf-8")
    judged = Judged(trial)
    try:
        fitted = fit(plan, own, recipe.budget, 0, training.machine, False, [judged], ADVICE)
    except DivergedError as error:
        raise optuna.TrialPruned(str(error)) from error
    finally:
        shutil.rmtree(own / "checkpoints", ignore_errors=True)  # what settings are worth is kept, not what they made
    assert fitted is not None
    assert judged.score is not None
    seen = [epoch.validation for epoch in fitted.epochs if epoch.validation]
    trial.set_user_attr("validation", seen[-1])
    trial.set_user_attr("minutes", fitted.minutes)
    return judged.score


def _told(study: optuna.Study, folder: Path) -> str:
    finished = study.get_trials(states=_FINISHED)
    complete = sorted((t for t in finished if t.state == TrialState.COMPLETE), key=_score, reverse=True)
    if not complete:
        return f"None of {len(finished)} trials was completed: try a smaller learning rate, or other ranges."
    best = complete[0]
    shutil.copyfile(folder / f"trial-{best.number}" / RECIPE, folder / BEST)
    names = list(best.user_attrs["validation"])
    header = ["trial", *(setting.partition("=")[0] for setting in best.user_attrs["settings"])]
    rows = [[*header, *(name.removeprefix("val_").replace("_", " ") for name in names), "minutes"]]
    for trial in complete:
        values = (setting.partition("=")[2] for setting in trial.user_attrs["settings"])
        found = (f"{trial.user_attrs['validation'][name]:.4g}" for name in names)
        rows.append([str(trial.number), *values, *found, f"{trial.user_attrs['minutes']:.1f}"])
    given_up = f"; {len(finished) - len(complete)} were given up" if len(finished) > len(complete) else ""
    return (
        f"\n{table(rows)}\n\nOn the validation set, best first{given_up}. The settings were chosen by these figures: "
        f"those of the best one are too good.\n\nbest: --recipe {folder / BEST}"
    )


def _score(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
