"""Scores per step -> segments on a timeline: smoothed, with hysteresis and a shortest length, online.

Nothing here grows with the video but the segments themselves, so the same code serves a file and a live stream.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Segment:
    """[start_seconds, end_seconds) with one label."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float
    """Mean of the label's score over the segment's steps, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """When a new label becomes a segment of its own."""

    smoothing_seconds: float
    """Scores are averaged over this long, centred."""
    margin: float
    """The new label's smoothed score must once be this far above the present one's."""
    shortest_seconds: float
    """The new label must lead for this long without a break."""


@dataclass(slots=True)
class _Run:
    """Steps that may become, or are, one segment: sums over them of every label's raw score."""

    label: int
    start_seconds: float
    score_sums: NDArray[np.float64]
    num_steps: int = 0
    largest_lead: float = 0.0

    def add(self, scores: NDArray[np.float64]) -> None:
        self.score_sums = self.score_sums + scores
        self.num_steps += 1


class _Smoother:
    """Centred moving average over 2 r + 1 steps, r steps late; shorter at both ends."""

    def __init__(self, radius: int) -> None:
        self.radius = radius
        self.steps: deque[tuple[float, NDArray[np.float64]]] = deque()
        self.centre = 0

    def push(
        self, seconds: float, scores: NDArray[np.float64]
    ) -> Iterator[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
        """Yields (time, raw scores, smoothed scores) of the step whose neighbourhood is now complete."""
        self.steps.append((seconds, scores))
        if len(self.steps) > self.centre + self.radius:
            yield self._advance()

    def finish(self) -> Iterator[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
        while self.centre < len(self.steps):
            yield self._advance()

    def _advance(self) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        seconds, raw = self.steps[self.centre]
        window = [scores for _, scores in self.steps][: self.centre + self.radius + 1]
        smoothed = np.mean(window, axis=0)
        if self.centre == self.radius:
            self.steps.popleft()
        else:
            self.centre += 1
        return seconds, raw, smoothed


class Segmenter:
    """Segments of scores that compete (softmax): in order, without gaps or overlaps."""

    def __init__(self, labels: tuple[str, ...], rate: float, rules: SegmentRules) -> None:
        self.labels = labels
        self.rules = rules
        self.smoother = _Smoother(round(rules.smoothing_seconds * rate / 2))
        self.current: _Run | None = None
        self.candidate: _Run | None = None

    def push(self, seconds: float, scores: NDArray[np.floating]) -> Iterator[Segment]:
        """Takes the scores (K,) in [0, 1] of the step that begins at `seconds`; yields what they close."""
        for step in self.smoother.push(seconds, scores.astype(np.float64)):
            yield from self._decide(*step)

    def finish(self, end_seconds: float) -> Iterator[Segment]:
        """Ends the timeline; a last stretch too short to stand alone stays with the label before it."""
        for step in self.smoother.finish():
            yield from self._decide(*step)
        if self.current is not None:
            if self.candidate is not None and self._stands(self.candidate, end_seconds):
                yield self._close(self.current, self.candidate.start_seconds)
                self.current = self.candidate
            elif self.candidate is not None:
                self._absorb(self.candidate)
            yield self._close(self.current, end_seconds)

    def _decide(self, seconds: float, scores: NDArray[np.float64], smoothed: NDArray[np.float64]) -> Iterator[Segment]:
        leader = int(smoothed.argmax())
        if self.current is None:
            self.current = _Run(leader, seconds, np.zeros_like(scores))
        current = self.current
        if self.candidate is not None and leader != self.candidate.label:
            self._absorb(self.candidate)
            self.candidate = None
        if leader == current.label:
            current.add(scores)
            return
        if self.candidate is None:
            self.candidate = _Run(leader, seconds, np.zeros_like(scores))
        candidate = self.candidate
        candidate.largest_lead = max(candidate.largest_lead, float(smoothed[leader] - smoothed[current.label]))
        if self._stands(candidate, seconds):
            yield self._close(current, candidate.start_seconds)
            self.current, self.candidate = candidate, None
        candidate.add(scores)

    def _stands(self, run: _Run, seconds: float) -> bool:
        long_enough = seconds - run.start_seconds >= self.rules.shortest_seconds
        return long_enough and run.largest_lead >= self.rules.margin

    def _absorb(self, run: _Run) -> None:
        assert self.current is not None
        self.current.score_sums = self.current.score_sums + run.score_sums
        self.current.num_steps += run.num_steps

    def _close(self, run: _Run, end_seconds: float) -> Segment:
        score = float(run.score_sums[run.label] / max(run.num_steps, 1))
        return Segment(run.start_seconds, end_seconds, self.labels[run.label], score)


class OverlappingSegmenter:
    """Segments of scores that do not compete (sigmoid): each label comes and goes on its own."""

    def __init__(self, labels: tuple[str, ...], rate: float, rules: SegmentRules) -> None:
        self.present = [Segmenter((label, ""), rate, rules) for label in labels]

    def push(self, seconds: float, scores: NDArray[np.floating]) -> Iterator[Segment]:
        """Like Segmenter.push; yields only stretches where a label is present."""
        for segmenter, score in zip(self.present, scores, strict=True):
            yield from self._named(segmenter.push(seconds, np.array([score, 1 - score])))

    def finish(self, end_seconds: float) -> Iterator[Segment]:
        for segmenter in self.present:
            yield from self._named(segmenter.finish(end_seconds))

    @staticmethod
    def _named(segments: Iterator[Segment]) -> Iterator[Segment]:
        return (segment for segment in segments if segment.label)
