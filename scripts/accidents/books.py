"""What was sent and what came of it, kept by the other side: the agent's own counts are not asked.

A frame is *accounted for* when its sender got an answer to it, a result or the reason why there is none.  A result is
lost when its answer came and it did not, or the other way round: both take the agent's way out, each on its own.

A camera is *dark* between two answers of its own, without the time in which nothing could have come: while the link was
cut, the broker away, or the agent stopped in its tracks.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Span = tuple[float, float]


@dataclass
class Books:
    """Every frame by its number."""

    sent: dict[int, str] = field(default_factory=dict)
    """Number → camera."""
    sent_at: dict[int, float] = field(default_factory=dict)
    answers: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)
    answered_at: dict[str, list[float]] = field(default_factory=dict)
    excused: set[int] = field(default_factory=set)
    """Frames that the broker took and lost when it was killed."""
    duplicates: int = 0
    away: list[Span] = field(default_factory=list)
    """When nothing could come."""

    def send(self, number: int, camera: str, now: float) -> None:
        """A frame is sent."""
        self.sent[number], self.sent_at[number] = camera, now
        self.answered_at.setdefault(camera, [now])

    def answer(self, number: int, payload: Mapping[str, Any], now: float) -> None:
        """An answer came."""
        if number in self.answers:
            self.duplicates += 1
            return
        self.answers[number] = payload
        if "error" not in payload:
            self.answered_at[self.sent[number]].append(now)

    def result(self, payload: Mapping[str, Any]) -> None:
        """A result came."""
        self.results.add(payload["id"])

    @property
    def open(self) -> set[int]:
        """Frames without an answer that nobody excuses."""
        return self.sent.keys() - self.answers.keys() - self.excused

    def excuse_open(self) -> None:
        """The broker is being killed: what it has and the agent has not is lost with it."""
        self.excused |= self.open

    @property
    def results_lost(self) -> int:
        """Answers without their result, and results without their answer, where both are to be expected."""
        answered = {answer["id"] for answer in self.answers.values() if "error" not in answer}
        return len(answered - self.results)

    @property
    def failures(self) -> Counter[str]:
        """Why frames were not answered with a result."""
        return Counter(answer["error"]["code"] for answer in self.answers.values() if "error" in answer)

    def longest_dark(self, camera: str, until: float) -> tuple[float, float]:
        """The longest time without an answer for a camera, in seconds, and when it began."""
        moments = [*self.answered_at.get(camera, []), until]
        gaps = itertools.pairwise(moments)
        dark = ((end - begin - overlap((begin, end), self.away), begin) for begin, end in gaps)
        return max(dark, default=(0.0, until))

    def answered_after(self, camera: str, moment: float) -> bool:
        """Whether a picture of a camera was answered since then."""
        return self.answered_at.get(camera, [0.0])[-1] > moment


def overlap(span: Span, others: Iterable[Span]) -> float:
    """How much of a span the others cover together, in seconds.

    >>> overlap((0.0, 10.0), [(1.0, 3.0), (2.0, 4.0), (9.0, 12.0)])
    4.0
    """
    covered, reached = 0.0, span[0]
    for begin, end in sorted(others):
        begin, end = max(begin, reached), min(end, span[1])  # noqa: PLW2901 clipped
        if end > begin:
            covered += end - begin
            reached = end
    return covered
