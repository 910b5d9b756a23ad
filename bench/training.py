"""The time of an epoch compared with bare forward and backward passes over the same clips, held in memory.

python -m bench.training --data DATA.csv [--recipe trainer/recipes/actions.yaml] [--epochs 3]

An epoch draws its clips from the cache on disk, augments them, steps the optimizer, averages the weights and logs. The
bare loop does none of that: it runs the network in the same precision, cross-entropy, and its gradient.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from app.models.precision import has_bfloat16
from bench.load import median
from trainer.data.prepare import DataOptions
from trainer.plan import PlanOptions
from trainer.plans import plan_training
from trainer.tasks.classify import Batch, ClassifyTask
from trainer.training import Machine, fit

CPU = torch.device("cpu")


def bare_epoch(learner: ClassifyTask, batches: list[Batch]) -> float:
    """Seconds of a forward and a backward pass over all the batches."""
    network = learner.network.train()
    in_bfloat16 = has_bfloat16(CPU)  # as the recipe's `auto`
    began = time.perf_counter()
    for frames, labels, lengths in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            loss = F.cross_entropy(network(frames, lengths), labels[:, -1])
        loss.backward()
        network.zero_grad()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=Path("trainer/recipes/actions.yaml"))
    parser.add_argument("--epochs", type=int, default=3, help="of each, in turns")
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = PlanOptions(DataOptions(options.data, val_fraction=0.0), "gru", 0)
    bare, whole, num_clips = [], [], 0
    for _ in range(options.epochs):
        recipe, plan = plan_training("classify", options.recipe, ("budget.num_epochs=1",), asked)
        assert isinstance(plan.learner, ClassifyTask)
        batches = list(plan.train)
        num_clips = sum(len(frames) for frames, _, _ in batches)
        bare.append(bare_epoch(plan.learner, batches))
        del batches
        with tempfile.TemporaryDirectory() as folder:
            fitted = fit(plan, Path(folder), recipe.budget, 0, Machine("cpu", num_threads=1), resume=False)
        assert fitted is not None
        whole.append(60 * fitted.minutes)
    ratio = median([epoch / alone for epoch, alone in zip(whole, bare, strict=True)])
    print(f"{num_clips} clips: bare {median(bare):.1f} s, an epoch {median(whole):.1f} s, {ratio:.2f}x")


if __name__ == "__main__":
    main()
