"""One model's calls for one upload or stream: single ones, and steps with the state carried."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import torch
from numpy.typing import NDArray

from app.models.batching import Scheduler
from app.models.store import ServedModel
from app.models.work import Answer, BeamSearch, Method, Work


class ModelCalls:
    """Calls of one model for one upload or stream, and the time they took."""

    def __init__(self, model: ServedModel, scheduler: Scheduler, *, live: bool = False) -> None:
        """`live`: somebody is watching, so that they go before those for files."""
        self.model = model
        self.live = live
        self.scheduler = scheduler
        self.queue_seconds = 0.0
        self.infer_seconds = 0.0

    def initial_state(self, height: int = 0, width: int = 0) -> torch.Tensor:
        """The state (S,) before the first frame of this size, or before the first sound."""
        state: torch.Tensor = self.model.module.initial_state(1, height, width)
        return state[0]

    async def run(
        self,
        method: Method,
        chunk: torch.Tensor,
        state: torch.Tensor | None = None,
        horizon: int = 0,
        search: BeamSearch | None = None,
    ) -> Answer:
        work = Work(self.model, chunk, method, state, horizon, search, self.live)
        answer = await asyncio.wrap_future(self.scheduler.submit(work))
        self.queue_seconds += answer.queue_seconds
        self.infer_seconds += answer.infer_seconds
        return answer


class Stepper:
    """Steps one model through an upload with the state carried. A chunk is inferred while the next one is decoded."""

    def __init__(self, calls: ModelCalls) -> None:
        self.calls = calls
        self.state: torch.Tensor | None = None
        """(S,) after the last chunk; None before the first one."""
        self._pending: asyncio.Task[None] | None = None

    async def push(self, chunk: torch.Tensor, take: Callable[[tuple[torch.Tensor, ...]], Awaitable[None]]) -> None:
        """Begins the step over `chunk` once the one before it is done; `take` gets its outputs (T, ...)."""
        await self.finish()
        self._pending = asyncio.create_task(self._step(chunk, take))

    async def finish(self) -> None:
        """Waits for the step that is under way."""
        if self._pending is not None:
            await self._pending

    def abandon(self) -> None:
        """Drops the step that is under way."""
        if self._pending is not None:
            self._pending.cancel()

    async def _step(self, chunk: torch.Tensor, take: Callable[[tuple[torch.Tensor, ...]], Awaitable[None]]) -> None:
        if self.state is None:
            self.state = self.calls.initial_state(*chunk.shape[1:3])
        answer = await self.calls.run("step", chunk, self.state)
        self.state = answer.state
        await take(answer.outputs)


def whole_steps(waveform: NDArray[np.float32], step_samples: int) -> NDArray[np.float32]:
    """(N,) the waveform with silence added to make whole steps, which only a last chunk needs.

    So a model that steps hears what it would hear in one `forward` of everything.
    """
    missing = -len(waveform) % step_samples
    return np.pad(waveform, (0, missing)) if missing else waveform
