"""How long each step of an answer takes, added up where a step is taken more than once."""

from __future__ import annotations

from time import perf_counter
from typing import Dict

__all__ = ["STEPS", "Stopwatch"]

STEPS = ("decode", "preprocess", "infer", "postprocess")


class Stopwatch:
    """Runs from the moment it is made."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(STEPS, 0.0)
        self._last = perf_counter()

    def lap(self, step: str) -> None:
        """What passed since the last lap belongs to ``step``."""
        now = perf_counter()
        self._seconds[step] += now - self._last
        self._last = now

    def timing(self) -> Dict[str, float]:
        """Milliseconds of each step."""
        return {step: round(seconds * 1e3, 3) for step, seconds in self._seconds.items()}
