"""Which placements are worth measuring, and which of them is chosen.

What the manifest and the configuration leave open is varied, what they say is kept.  Chosen is the fastest, unless its
lead is noise and another one does with fewer threads.

Medians are compared, since one slow answer says nothing.  Another placement counts as equally fast when its median
lies within the margin: twice the standard error of the two medians' ratio, yet at least ``LEAST`` (a lead that nobody
notices is not worth a processor) and at most ``MOST`` (a machine too noisy to measure on is no reason to be slow).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.inference.placement import ANY, CPU, Placement, most_threads
from agent.inference.tuning.values import Ability, Measured, Requirements

__all__ = ["Figures", "candidates", "choose", "figures", "margin", "ranked"]

LEAST: Final = 0.05
MOST: Final = 0.15
_NORMAL_MAD: Final = 1.4826
_MEDIAN_ERROR: Final = 1.2533
_P95: Final = 0.95


@dataclass(frozen=True, slots=True)
class Figures:
    """The median, the 95th percentile and the noise of a number of durations."""

    median_ms: float
    p95_ms: float
    noise: float
    """The standard error of the median, as a fraction of it; robust against outliers."""


def candidates(requirements: Requirements, abilities: Iterable[Ability], cpus: int) -> tuple[Placement, ...]:
    """The placements in the order in which they are tried; the first one that answers is the reference.

    >>> requirements = Requirements("auto", {}, "auto", 0, 1, {}, "", {})
    >>> [str(placement) for placement in candidates(requirements, [Ability("litert", ("cpu",))], 2)]
    ['litert on cpu, 1 thread', 'litert on cpu, 2 threads']
    """
    counts = (requirements.threads,) if requirements.threads else range(1, most_threads(cpus, requirements.workers) + 1)
    placements = [
        Placement(ability.backend, accelerator, threads)
        for ability in abilities
        if ability.problem is None
        for accelerator in ((requirements.accelerator,) if requirements.accelerator != ANY else ability.accelerators)
        for threads in counts
    ]
    # The processor is where answers are most to be trusted: it comes first, and is what the others are held against.
    return tuple(sorted(placements, key=lambda placement: placement.accelerator != CPU))


def figures(times_ms: Sequence[float]) -> Figures:
    """The figures of at least one duration."""
    ordered = sorted(times_ms)
    median = statistics.median(ordered)
    deviation = statistics.median(abs(time - median) for time in ordered) * _NORMAL_MAD
    error = _MEDIAN_ERROR * deviation / math.sqrt(len(ordered))
    p95 = ordered[math.ceil(_P95 * len(ordered)) - 1]
    return Figures(median, p95, error / median if median > 0 else 0.0)


def margin(one: Measured, other: Measured) -> float:
    """How much slower, as a fraction, one of the two may be and still count as equally fast."""
    return min(MOST, max(LEAST, 2 * math.hypot(one.noise, other.noise)))


def choose(measured: Sequence[Measured]) -> tuple[Measured | None, str]:
    """The one to run the model with and why; None where no one is fit, with the reason for that."""
    fit = [candidate for candidate in measured if candidate.fit]
    if not fit:
        return None, _nothing(measured)
    fastest = min(fit, key=_speed)
    equal = [other for other in fit if other.median_ms <= fastest.median_ms * (1 + margin(fastest, other))]
    chosen = min(equal, key=lambda other: (other.placement.threads, *_speed(other)))
    return chosen, _reason(chosen, fastest, fit)


def ranked(measured: Sequence[Measured]) -> tuple[Measured, ...]:
    """The chosen one, the others that are fit by their median, then those that are out."""
    chosen, _ = choose(measured)
    return tuple(sorted(measured, key=lambda one: (one is not chosen, not one.fit, *_speed(one))))


def _speed(measured: Measured) -> tuple[object, ...]:
    return measured.median_ms, measured.placement


def _reason(chosen: Measured, fastest: Measured, fit: Sequence[Measured]) -> str:
    others = sorted((other for other in fit if other is not chosen), key=_speed)
    if not others:
        return "nothing else runs the model here as it should"
    if chosen is not fastest:
        behind = _percent(chosen.median_ms, fastest.median_ms)
        return f"it comes within {behind} of {fastest.placement}, which is noise, and takes fewer threads"
    second = others[0]
    ahead = _percent(second.median_ms, chosen.median_ms)
    if second.median_ms > chosen.median_ms * (1 + margin(chosen, second)):
        return f"it is the fastest: {second.placement} takes {ahead} longer"
    return f"nothing is faster: {second.placement} comes within {ahead} of it, which is noise"


def _percent(slower: float, faster: float) -> str:
    return f"{(slower / faster - 1 if faster > 0 else 0):.0%}"


def _nothing(measured: Sequence[Measured]) -> str:
    first = next((one.problem for one in measured if one.problem is not None), None)
    return f"nothing runs the model here ({first.message})" if first else "no backend here reads the model"
