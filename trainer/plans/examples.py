"""Chooses what networks learn from, and in what batches."""

import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from trainer.data.listing import Split
from trainer.data.rows import InvalidListing
from trainer.data.splits import check_labels
from trainer.metrics import Example
from trainer.plan import PlanOptions

E = TypeVar("E", bound=Example)


def examples(opened: Callable[[Split], list[E]], labels: Sequence[str]) -> tuple[list[E], list[E], list[int]]:
    """The training examples, the validation examples, and the number of training examples of each label.

    Raises InvalidListing if nothing is left to train on, or to tell apart.
    """
    train, val = opened("train"), opened("val")
    if not train:
        raise InvalidListing("no files to train on are left")
    counts = [sum(example.label == index for example in train) for index in range(len(labels))]
    check_labels(labels, counts)
    return train, val, counts


def full_batch_size(wanted: int, num_examples: int, options: PlanOptions) -> int:
    """Batch size on each device when training uses only full batches: no more than there are examples."""
    return max(1, min(wanted, num_examples) // options.num_devices)


def drops_last(num_examples: int, batch_size: int, options: PlanOptions) -> bool:
    """Whether to leave out a last batch that is not full; `batch_size` is that of each device.

    A last batch of one or two examples would move the weights as far as a full one.
    """
    return num_examples // options.num_devices >= 2 * batch_size


def warn_of_mirrors(labels: Sequence[str], flip: float, key: str) -> None:
    """Warns on standard error if mirror images would get the label of the other side; `key` is the recipe's."""
    sided = [label for label in labels if re.search(r"(?<![a-z])(left|right)(?![a-z])", label.lower())]
    if flip and sided:
        sys.stderr.write(f"warning: {', '.join(sided)} are learnt from mirror images too; --set {key}=0: from none\n")
