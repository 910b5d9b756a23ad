"""Scores of labels that do not compete -> segments that may overlap, online: each label has a timeline of its own."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from app.pipelines.segments import AS_THEY_ARE, OpenSegment, Segment, Segmenter, SegmentRules

ROUNDING = 1e-6
"""Of differences of times, seconds: half a second is six steps of a twelfth, not seven."""


class OverlappingSegmenter:
    """Segments of scores that do not compete (sigmoid): each label comes and goes on its own."""

    def __init__(
        self,
        labels: tuple[str, ...],
        rate: float,
        rules: SegmentRules,
        shortest_seconds: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """`shortest_seconds`: of labels with rules of their own, which are not smoothed.

        A label whose shortest length is 0, such as a cut, is a moment: the others among them end there and may begin
        anew, for what stands still before a cut is not what stands still after it.
        """

        def segmenter(label: str) -> Segmenter:
            if label not in shortest_seconds:
                return Segmenter((label, ""), rate, rules)
            own = replace(AS_THEY_ARE, shortest_seconds=shortest_seconds[label] - ROUNDING)
            return Segmenter((label, ""), rate, own, first_label="", whole_steps=True)

        self.present = [segmenter(label) for label in labels]
        self.moments = [labels.index(label) for label, least in shortest_seconds.items() if not least]
        self.interrupted = [self.present[labels.index(label)] for label, least in shortest_seconds.items() if least]

    @property
    def open_segments(self) -> tuple[OpenSegment, ...]:
        """Those of the labels that are present."""
        return tuple(found for one in self.present for found in one.open_segments if found.label)

    def smoothed(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Like Segmenter.smoothed."""
        pairs = zip(self.present, scores, strict=True)
        return np.array([one.smoothed(np.array([score, 1 - score]))[0] for one, score in pairs])

    def save(self) -> list[float]:
        """Like Segmenter.save."""
        return [value for one in self.present for value in one.save()]

    def restore(self, saved: Iterator[float]) -> None:
        """Like Segmenter.restore."""
        for one in self.present:
            one.restore(saved)

    def push(self, seconds: float, scores: NDArray[np.floating]) -> Iterator[Segment]:
        """Like Segmenter.push; yields only stretches where a label is present."""
        if any(scores[moment] >= 0.5 for moment in self.moments):
            for segmenter in self.interrupted:
                yield from self._named(segmenter.break_off(seconds))
        for segmenter, score in zip(self.present, scores, strict=True):
            yield from self._named(segmenter.push(seconds, np.array([score, 1 - score])))

    def finish(self, end_seconds: float) -> Iterator[Segment]:
        for segmenter in self.present:
            yield from self._named(segmenter.finish(end_seconds))

    @staticmethod
    def _named(segments: Iterator[Segment]) -> Iterator[Segment]:
        return (segment for segment in segments if segment.label)
