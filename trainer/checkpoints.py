"""What of a training is kept on disk, and that it is whole."""

import io
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from trainer.data.workers import FULL, NoSpaceError
from trainer.tasks.learner import RANK, Learner


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, so that the one before it survives a full disk.

    Lightning's own writes to the folder of temporary files first; where that is on another disk, it then copies over
    the last checkpoint, and leaves half of one if there is no room.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises NoSpaceError."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content.getbuffer())
            partial.replace(path)
        except OSError as error:
            if error.errno in FULL:
                raise NoSpaceError(f"{path} has no room: make some, then --resume goes on with the run") from error
            raise
        finally:
            partial.unlink(missing_ok=True)


def keepers(checkpoints: Path, patience: int, every: int) -> list[Callback]:
    """What keeps the last epoch and, where training may stop early, the best one."""
    last = ModelCheckpoint(checkpoints, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    if not patience:
        return [last]
    best = ModelCheckpoint(checkpoints, "best", RANK, mode="max", enable_version_counter=False)
    return [last, best, EarlyStopping(RANK, mode="max", patience=math.ceil(patience / every))]


def load_weights(learner: Learner[Any], checkpoint: Path) -> int:
    """Puts a checkpoint's weights into `learner`; the epoch that they are of. Raises FileNotFoundError."""
    if not checkpoint.exists():
        raise FileNotFoundError(f"{checkpoint} is missing, which holds the weights of this run: begin another run")
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True)
    learner.load_state_dict(kept["state_dict"])
    return int(kept["epoch"]) + 1
