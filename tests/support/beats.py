"""When messages came, held against a grid of beats."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.peer import Peer
from tests.support.until import until_sync


@dataclass(frozen=True)
class Rhythm:
    """Seconds: the usual time between two messages, what a beat gains or loses, and each one's way off the grid."""

    interval_s: float
    drift_s: float
    off_s: tuple[float, ...]

    @classmethod
    def of(cls, times: Sequence[float], interval_s: float) -> Rhythm:
        """Of messages that should come every ``interval_s``; the grid lies where most of them are."""
        shifts = [at - number * interval_s for number, at in enumerate(times)]
        slopes = [
            (later - sooner) / (there - here)
            for (here, sooner), (there, later) in itertools.combinations(enumerate(shifts), 2)
        ]
        middle = statistics.median(shifts)
        between = [later - sooner for sooner, later in itertools.pairwise(times)]
        return cls(statistics.median(between), statistics.median(slopes), tuple(shift - middle for shift in shifts))

    @property
    def noise_s(self) -> float:
        """How far off the grid a message usually is: what else the machine does holds some of them up."""
        return statistics.median(map(abs, self.off_s))

    def keeps(self, interval_s: float, tolerance_s: float) -> bool:
        """Whether the interval is right, and most messages are where the first ones let expect them.

        A slope through so few points is not more certain than their noise lets it be.
        """
        uncertain_s = 3 * 1.5 * self.noise_s * math.sqrt(12 / len(self.off_s) ** 3)
        return (
            abs(self.interval_s - interval_s) <= tolerance_s
            and self.noise_s <= tolerance_s
            and abs(self.drift_s) <= max(tolerance_s / len(self.off_s), uncertain_s)
        )

    def __str__(self) -> str:
        off = ", ".join(f"{each * 1e3:+.0f}" for each in self.off_s)
        return f"median {self.interval_s:.4f} s, drift {self.drift_s * 1e3:+.2f} ms a beat, off the grid by {off} ms"


@dataclass(frozen=True)
class Heard:
    """A JSON message and when it came, on the clock of ``time.monotonic``."""

    at: float
    told: Any


def heard(peer: Peer, topic: str, count: int, since: float = 0.0, timeout_s: float = 60.0) -> list[Heard]:
    """The first ``count`` messages on a topic that came after ``since``."""

    def found() -> list[Any]:
        return [message for message in list(peer.heard) if message.topic == topic and message.timestamp > since]

    until_sync(lambda: len(found()) >= count, timeout_s, why=lambda: f"{len(found())} of {count} came on {topic}")
    return [Heard(message.timestamp, json.loads(message.payload)) for message in found()[:count]]
