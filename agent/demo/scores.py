"""The demo's account of frames and results, kept from outside: from the messages that any client of the broker gets.

Pure: messages in, rows and the summary out, the time comes from the caller (monotonic seconds).  Counts are
the agent's own, from its stream report; results are counted as they arrive, which proves the ``answered``
of the report; how many frames were published only the cameras can tell.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

__all__ = [
    "VERDICTS",
    "CameraCounts",
    "CameraRow",
    "CameraSummary",
    "Percentiles",
    "ResultSeen",
    "Scores",
    "Sequences",
    "StreamReport",
    "Summary",
    "percentiles",
]

VERDICTS = {True: "anomaly", False: "normal"}

_LATENCIES = 2048
_RATE_WINDOW_S = 5.0
_RATE_SAMPLES = 1024
_NAMED = 2
"""Predictions that are named in a row: the best ones."""


class CameraCounts(msgspec.Struct, frozen=True):
    """The counts of a camera's frames."""

    received: int = 0
    answered: int = 0
    dropped: int = 0
    failed: int = 0


class StreamReport(msgspec.Struct, frozen=True):
    """The part of a stream's report that the demo reads."""

    received: int = 0
    answered: int = 0
    dropped: dict[str, int] = {}
    failed: dict[str, int] = {}
    pending: int = 0
    cameras: dict[str, CameraCounts] = {}
    model: dict[str, Any] | None = None
    state: str = ""


class _Frame(msgspec.Struct, frozen=True):
    camera: str
    sequence: int = 0
    metadata: dict[str, Any] = {}


class _Model(msgspec.Struct, frozen=True):
    component: str = ""


class _Prediction(msgspec.Struct, frozen=True):
    label: str = ""
    score: float = 0.0
    anomalous: bool | None = None

    @property
    def name(self) -> str:
        """What it says: an anomaly's verdict is its label."""
        return self.label if self.anomalous is None else VERDICTS[self.anomalous]


class _Timing(msgspec.Struct, frozen=True):
    total: float


class ResultSeen(msgspec.Struct, frozen=True):
    """The part of a result that the demo reads."""

    frame: _Frame
    predictions: tuple[_Prediction, ...]
    timing_ms: _Timing
    model: _Model = _Model()


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds from a frame's arrival at the agent to its result; null before the first."""

    p50: float | None
    p95: float | None


class CameraRow(msgspec.Struct, frozen=True, kw_only=True):
    """One camera in the table."""

    camera: str
    frames: int
    answered: int
    dropped: int
    failed: int
    fps: float
    latency_ms: Percentiles
    sees: str


class CameraSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One camera in the summary."""

    frames: int
    received: int
    answered: int
    dropped: int
    failed: int
    latency_ms: Percentiles


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints; ``frames`` were published, ``results`` arrived."""

    frames: int
    answered: int
    dropped: int
    failed: int
    fps: float
    """Answers per second between the first and the last."""
    latency_ms: Percentiles
    received: int
    results: int
    reasons: dict[str, int]
    """Of what was dropped or failed."""
    seconds: float
    """From the first result to the last."""
    cameras: dict[str, CameraSummary]
    model: dict[str, Any] | None

    @property
    def balanced(self) -> bool:
        """Whether every frame was answered or counted, and every answer arrived."""
        counted = self.answered + self.dropped + self.failed
        return self.frames == self.received == counted and self.results == self.answered


class Sequences:
    """The numbers of a stream's answered frames, 1 and up, in any order: gaps and doubles show.

    >>> seen = Sequences()
    >>> for number in (1, 2, 4, 4):
    ...     seen.add(number)
    >>> seen.missing(0, 4), seen.twice(0, 4)
    (1, 1)
    """

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self.highest = 0

    def add(self, number: int) -> None:
        """A result of this frame arrived."""
        self._seen[number] += 1
        self.highest = max(self.highest, number)

    def missing(self, after: int, upto: int) -> int:
        """Frames of (after, upto] without a result."""
        return sum(not self._seen[number] for number in range(after + 1, upto + 1))

    def twice(self, after: int, upto: int) -> int:
        """Results of (after, upto] that came more than once."""
        return sum(max(0, self._seen[number] - 1) for number in range(after + 1, upto + 1))


class _Camera:
    """The results of one camera."""

    def __init__(self) -> None:
        self.results = 0
        self.sees = ""
        self.latencies: deque[float] = deque(maxlen=_LATENCIES)
        self.times: deque[float] = deque(maxlen=_RATE_SAMPLES)

    def fps(self, now: float) -> float:
        times = [at for at in self.times if now - at <= _RATE_WINDOW_S]
        span = now - times[0] if times else 0.0
        return round((len(times) - 1) / span, 1) if span > 0 else 0.0


class Scores:
    """Results and reports so far; ``cameras`` are listed from the start."""

    def __init__(self, cameras: Iterable[str] = ()) -> None:
        self._cameras: dict[str, _Camera] = {name: _Camera() for name in cameras}
        self._first: float | None = None
        self._last = 0.0
        self.report = StreamReport()
        self.sequences = Sequences()
        self.answering = ""
        """The model of the latest result."""

    def on_result(self, result: ResultSeen, now: float) -> None:
        """A result arrived."""
        camera = self._cameras.setdefault(result.frame.camera, _Camera())
        camera.results += 1
        camera.sees = _sentence(result.predictions)
        camera.latencies.append(result.timing_ms.total)
        camera.times.append(now)
        self.sequences.add(result.frame.sequence)
        self.answering = result.model.component
        self._first = now if self._first is None else self._first
        self._last = now

    def on_report(self, report: StreamReport) -> None:
        """The agent's counters; its last report, without workers, does not name the model any more."""
        self.report = report if report.model else msgspec.structs.replace(report, model=self.report.model)

    def rows(self, now: float) -> list[CameraRow]:
        """The table as it is now."""
        return [self._row(name, camera, now) for name, camera in self._cameras.items()]

    def summary(self, published: Mapping[str, int]) -> Summary:
        """The figures at the end; ``published`` is the cameras' own count."""
        report, seconds = self.report, self._last - (self._first or 0.0) if self._first is not None else 0.0
        results = sum(camera.results for camera in self._cameras.values())
        return Summary(
            frames=sum(published.values()),
            answered=report.answered,
            dropped=sum(report.dropped.values()),
            failed=sum(report.failed.values()),
            fps=round((results - 1) / seconds, 2) if seconds > 0 else 0.0,
            latency_ms=percentiles(ms for camera in self._cameras.values() for ms in camera.latencies),
            received=report.received,
            results=results,
            reasons=report.dropped | report.failed,
            seconds=round(seconds, 3),
            cameras={name: self._camera_summary(name, published.get(name, 0)) for name in self._cameras},
            model=report.model,
        )

    def _row(self, name: str, camera: _Camera, now: float) -> CameraRow:
        counts = self.report.cameras.get(name, CameraCounts())
        return CameraRow(
            camera=name,
            frames=counts.received,
            answered=counts.answered,
            dropped=counts.dropped,
            failed=counts.failed,
            fps=camera.fps(now),
            latency_ms=percentiles(camera.latencies),
            sees=camera.sees,
        )

    def _camera_summary(self, name: str, published: int) -> CameraSummary:
        counts = self.report.cameras.get(name, CameraCounts())
        return CameraSummary(
            frames=published,
            received=counts.received,
            answered=counts.answered,
            dropped=counts.dropped,
            failed=counts.failed,
            latency_ms=percentiles(self._cameras[name].latencies),
        )


def percentiles(latencies: Iterable[float]) -> Percentiles:
    """The median and the 95th percentile, by nearest rank.

    >>> percentiles([3.0, 1.0, 2.0])
    Percentiles(p50=2.0, p95=3.0)
    """
    ordered = sorted(latencies)
    if not ordered:
        return Percentiles(None, None)
    p50, p95 = (round(ordered[-(-len(ordered) * rank // 100) - 1], 2) for rank in (50, 95))
    return Percentiles(p50, p95)


def _sentence(predictions: tuple[_Prediction, ...]) -> str:
    best = (f"{prediction.name} {prediction.score:.0%}" for prediction in predictions[:_NAMED])
    return ", ".join(best) or "nothing it knows"
