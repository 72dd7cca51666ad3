"""The order of a measurement: each contestant between two runs of the plain loop, round after round.

The machine's speed drifts by more than what is looked for.  So a ratio compares neighbours in time: to the mean of
the plain loop right before and right after.  What is told is the median of the rounds; each round is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Protocol

from scripts.benchmarks import bare, client

COUNTS = (1, 2)
"""Workers."""


class Contestant(Protocol):
    """A server that can be started with so many workers."""

    @property
    def name(self) -> str:
        """What its figures begin with."""

    def serving(self, workers: int) -> AbstractContextManager[client.Target]:
        """The server, ready for frames."""


@dataclass(frozen=True)
class Plan:
    """How long and how often."""

    model: str
    pictures: Path
    seconds: float
    latencies: int
    """Frames of one round, sent one at a time."""


@dataclass
class Measured:
    """What every round gave, by the name of the figure, in the order of the rounds."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    latencies: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    """By contestant, over all rounds: end to end, worker, echo of each frame, in milliseconds."""

    def add(self, name: str, value: float) -> None:
        """One round's figure."""
        self.figures.setdefault(name, []).append(value)

    def told(self, contestants: Sequence[str]) -> dict[str, float]:
        """Medians of the rounds; percentiles over all frames sent one at a time."""
        told = {name: round(median(values), 3) for name, values in self.figures.items()}
        for name in contestants:
            prefix = prefix_of(name)
            added = sorted(whole - worker - echo for whole, worker, echo in self.latencies[name])
            told[f"{prefix}added_ms_p50"] = round(median(added), 3)
            told[f"{prefix}added_ms_p95"] = round(added[int(0.95 * len(added))], 3)
            for part, values in zip(("e2e", "worker", "echo"), zip(*self.latencies[name], strict=True), strict=True):
                told[f"{prefix}{part}_ms_p50"] = round(median(values), 3)
        return told


def prefix_of(name: str) -> str:
    """Our own figures carry no name."""
    return "" if name == "e2e" else f"{name}_"


def measure(plan: Plan, contestants: Sequence[Contestant], rounds: int, say: Callable[[str], None]) -> Measured:
    """All rounds."""
    measured = Measured()
    alone = _alone(plan, measured)
    for number in range(rounds):
        for contestant in contestants:
            say(f"round {number + 1} of {rounds}: {'Verge' if contestant.name == 'e2e' else contestant.name}")
            fps = {workers: _one(plan, contestant, workers, measured) for workers in COUNTS}
            before, alone = alone, _alone(plan, measured)
            prefix = prefix_of(contestant.name)
            for workers, value in fps.items():
                measured.add(f"{prefix}ratio_{workers}", value / ((before + alone) / 2))
    return measured


def _alone(plan: Plan, measured: Measured) -> float:
    told = bare.measure(plan.model, plan.pictures, plan.seconds)
    measured.add("bare_fps", told["fps"])
    measured.add("bare_cpu_ms_per_frame", told["cpu_ms"])
    return told["fps"]


def _one(plan: Plan, contestant: Contestant, workers: int, measured: Measured) -> float:
    """Frames per second; with one worker the latencies of the same process as well."""
    prefix = prefix_of(contestant.name)
    with contestant.serving(workers) as target:
        told = client.flood(target, plan.pictures, 2 * workers + 2, plan.seconds)
        if workers == 1:
            latencies = client.latency(target, plan.pictures, plan.latencies)
            measured.latencies.setdefault(contestant.name, []).extend(latencies)
            measured.add(f"{prefix}added_ms_p50", median(whole - worker - echo for whole, worker, echo in latencies))
            for part, cpu_ms in told["cpu_ms"].items():
                measured.add(f"{prefix}{part}_cpu_ms_per_frame", cpu_ms)
    fps: float = told["fps"]
    measured.add(f"{contestant.name}_fps_{workers}", fps)
    return fps
