"""The counts of one stream, and how often a refusal is reported.

Every frame received is answered, dropped, failed or still pending: ``received = answered + dropped + failed + pending``
holds after every call, for the stream and for each of its cameras.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

__all__ = ["CameraMetrics", "Latency", "Report", "Reports", "StreamMetrics"]

_LATENCIES = 512
_RATE_WINDOW_S = 10.0
_RATE_SAMPLES = 4096


@dataclass(slots=True)
class CameraMetrics:
    """One camera's counts."""

    received: int = 0
    answered: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a frame's arrival to its result, over the last few hundred answers."""

    p50: float
    p95: float
    p99: float


@dataclass(slots=True)
class StreamMetrics:
    """A stream's counts, rates and latencies; at most ``max_cameras`` cameras are counted separately."""

    max_cameras: int = 256
    received: int = 0
    answered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    """Of those answered, the ones whose decoder complained."""
    cameras: dict[str, CameraMetrics] = field(default_factory=dict)
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))
    _answered_at: deque[float] = field(default_factory=lambda: deque(maxlen=_RATE_SAMPLES))

    def arrived(self, camera: str) -> None:
        """A payload came from a camera."""
        self.received += 1
        self._camera(camera).received += 1

    def answer(self, camera: str, latency_ms: float, now: float, *, damaged: bool = False) -> None:
        """A frame was answered."""
        self.answered += 1
        self.damaged += damaged
        self._camera(camera).answered += 1
        self._latencies.append(latency_ms)
        self._answered_at.append(now)

    def drop(self, camera: str, reason: str) -> None:
        """A frame will not be answered because the agent chose so."""
        self.dropped[reason] += 1
        self._camera(camera).dropped += 1

    def fail(self, camera: str, reason: str) -> None:
        """A frame could not be answered."""
        self.failed[reason] += 1
        self._camera(camera).failed += 1

    @property
    def pending(self) -> int:
        """Frames that wait or are being worked on."""
        return self.received - self.answered - self.dropped.total() - self.failed.total()

    def fps(self, now: float) -> float:
        """Answers per second over the last ten seconds (or since the first, if that is shorter)."""
        while self._answered_at and now - self._answered_at[0] > _RATE_WINDOW_S:
            self._answered_at.popleft()
        if len(self._answered_at) < 2:  # noqa: PLR2004 one answer has no rate
            return 0.0
        span = max(now - self._answered_at[0], 1e-3)
        return round((len(self._answered_at) - 1) / span, 2)

    def latency(self) -> Latency | None:
        """The latency percentiles, once there is an answer."""
        if not self._latencies:
            return None
        ordered = sorted(self._latencies)
        p50, p95, p99 = (round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 3) for q in (0.5, 0.95, 0.99))
        return Latency(p50, p95, p99)

    def _camera(self, name: str) -> CameraMetrics:
        """The camera's counts; past the bound, all further cameras share the entry ``*``."""
        counts = self.cameras.get(name)
        if counts is None:
            key = name if len(self.cameras) < self.max_cameras else "*"
            counts = self.cameras.setdefault(key, CameraMetrics())
        return counts


@dataclass(frozen=True, slots=True)
class Report:
    """A refusal to be reported; ``suppressed`` were refused on the topic since its last report."""

    topic: str
    code: str
    suppressed: int


class Reports:
    """Decides which refusals are reported: at most one per topic in ``per_s`` seconds.

    A camera that sends what cannot be read sends it many times a second.  Its first refusal is reported at once, later
    ones are counted, and the next report carries the count.  Topics are remembered up to a bound, the least recently
    refused is forgotten first, so that a publisher who invents topics cannot fill the memory.
    """

    def __init__(self, per_s: float = 60.0, max_topics: int = 1024) -> None:
        self._per_s = per_s
        self._max_topics = max_topics
        # topic → (time of its last report, refusals since); kept in the order of the latest refusal.
        self._topics: dict[str, tuple[float, int]] = {}

    def note(self, topic: str, code: str, now: float) -> Report | None:
        """Take note of a refusal at ``now`` (monotonic seconds): the report to make, or None."""
        known = self._topics.pop(topic, None)
        if known is not None and now - known[0] < self._per_s:
            self._topics[topic] = (known[0], known[1] + 1)
            return None
        self._topics[topic] = (now, 0)
        if len(self._topics) > self._max_topics:
            del self._topics[next(iter(self._topics))]
        return Report(topic, code, suppressed=known[1] if known else 0)

    def __len__(self) -> int:
        return len(self._topics)
