"""Where one shot ends and the next begins, as a classifier of edits sees it."""

from app.media.request import FrameChunk
from app.models.manifest import ClassifyOutput
from app.models.store import ServedModel
from app.pipelines.calls import ModelCalls
from app.pipelines.judges import TimelineJudge
from app.pipelines.segments import EVERY_STEP

CUT, DISSOLVE = "cut", "dissolve"


def finds_shots(model: ServedModel) -> bool:
    """Whether a model says of each moment of a video whether there is a cut."""
    manifest = model.manifest
    output = manifest.output
    return isinstance(output, ClassifyOutput) and manifest.input.media == "video" and CUT in output.labels


class ShotFinder:
    """Takes the frames of the classifier's own rate, and tells where shots meet."""

    def __init__(self, calls: ModelCalls) -> None:
        output = calls.model.manifest.output
        assert isinstance(output, ClassifyOutput)
        self.calls = calls
        self._judge = TimelineJudge(calls, output, EVERY_STEP)
        self.spec = self._judge.spec
        self._finished = False

    @property
    def joins(self) -> list[float]:
        """Seconds: of each cut, and of the middle of each dissolve or fade, in order."""
        assert self._judge.track is not None
        found = [segment for segment in self._judge.track.segments if segment.label in (CUT, DISSOLVE)]
        return sorted(
            one.start_seconds if one.label == CUT else (one.start_seconds + one.end_seconds) / 2 for one in found
        )

    @property
    def known_seconds(self) -> float:
        """Up to here all joins are known."""
        if self._finished:
            return float("inf")
        assert self._judge.track is not None
        open_joins = [
            segment.start_seconds
            for segment in self._judge.track.segmenter.open_segments
            if segment.label in (CUT, DISSOLVE)
        ]
        answered = self._judge.end_seconds - self._judge.late.delay_steps / self._judge.rate
        return min([answered, *open_joins])

    async def add(self, chunk: FrameChunk) -> None:
        await self._judge.add(chunk)

    async def finish(self) -> None:
        await self._judge.finish()
        self._judge.close(float("inf"))
        self._finished = True

    def abandon(self) -> None:
        self._judge.abandon()
