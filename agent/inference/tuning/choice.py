"""Which combination is chosen: the fastest, unless its lead is noise and another one does with fewer threads.

Medians are compared, since one slow answer says nothing.  Another combination counts as equally fast when its median
lies within the margin: twice the standard error of the two medians' ratio, yet at least ``LEAST`` (a lead that nobody
notices is not worth a processor) and at most ``MOST`` (a machine too noisy to measure on is no reason to be slow).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent.inference.tuning.values import Measured

__all__ = ["Figures", "choose", "figures", "margin", "ranked"]

LEAST: Final = 0.05
MOST: Final = 0.15
_NORMAL_MAD: Final = 1.4826
_MEDIAN_ERROR: Final = 1.2533
_P95: Final = 0.95


@dataclass(frozen=True, slots=True)
class Figures:
    """What so many durations come to."""

    median_ms: float
    p95_ms: float
    noise: float
    """The standard error of the median, as a fraction of it; robust against outliers."""


def figures(times_ms: Sequence[float]) -> Figures:
    """The figures of at least one duration."""
    ordered = sorted(times_ms)
    median = statistics.median(ordered)
    deviation = statistics.median(abs(each - median) for each in ordered) * _NORMAL_MAD
    error = _MEDIAN_ERROR * deviation / math.sqrt(len(ordered))
    p95 = ordered[math.ceil(_P95 * len(ordered)) - 1]
    return Figures(median, p95, error / median if median > 0 else 0.0)


def margin(one: Measured, other: Measured) -> float:
    """How much slower, as a fraction, one of the two may be and still count as equally fast."""
    return min(MOST, max(LEAST, 2 * math.hypot(one.noise, other.noise)))


def choose(measured: Sequence[Measured]) -> tuple[Measured | None, str]:
    """The one to run the model with and why; None where no one is fit, with the reason for that."""
    fit = [each for each in measured if each.fit]
    if not fit:
        return None, _nothing(measured)
    fastest = min(fit, key=_speed)
    equal = [each for each in fit if each.median_ms <= fastest.median_ms * (1 + margin(fastest, each))]
    chosen = min(equal, key=lambda each: (each.combination.threads, *_speed(each)))
    return chosen, _reason(chosen, fastest, fit)


def ranked(measured: Sequence[Measured]) -> tuple[Measured, ...]:
    """The chosen one, the others that are fit by their median, then those that are out."""
    chosen, _ = choose(measured)
    return tuple(sorted(measured, key=lambda each: (each is not chosen, not each.fit, *_speed(each))))


def _speed(each: Measured) -> tuple[object, ...]:
    return each.median_ms, each.combination


def _reason(chosen: Measured, fastest: Measured, fit: Sequence[Measured]) -> str:
    others = sorted((each for each in fit if each is not chosen), key=_speed)
    if not others:
        return "nothing else runs the model here as it should"
    if chosen is not fastest:
        behind = _percent(chosen.median_ms, fastest.median_ms)
        return f"it comes within {behind} of {fastest.combination}, which is noise, and takes fewer threads"
    second = others[0]
    ahead = _percent(second.median_ms, chosen.median_ms)
    if second.median_ms > chosen.median_ms * (1 + margin(chosen, second)):
        return f"it is the fastest: {second.combination} takes {ahead} longer"
    return f"nothing is faster: {second.combination} comes within {ahead} of it, which is noise"


def _percent(slower: float, faster: float) -> str:
    return f"{(slower / faster - 1 if faster > 0 else 0):.0%}"


def _nothing(measured: Sequence[Measured]) -> str:
    first = next((each.problem for each in measured if each.problem is not None), None)
    return f"nothing runs the model here ({first.message})" if first else "no backend here reads the model"
