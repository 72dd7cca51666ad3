"""Which results are worth publishing, and which of their predictions.

A result passes four questions in this order: which predictions stay (label, score), may it be empty, is it
news, is it time.  State changes only when a result is let through: a change that came too soon is published with
the first frame that is due.  A result held back is counted and its frame stays answered.
"""

from __future__ import annotations

from collections import Counter

from msgspec.structs import replace

from agent.config.streams import FilterOptions
from agent.inference.predictions import Labelled, Prediction
from agent.results.recent import Recent
from agent.results.result import Result

__all__ = ["EMPTY", "RATE", "UNCHANGED", "Filters"]

EMPTY, UNCHANGED, RATE = "filtered:empty", "filtered:unchanged", "filtered:rate"


class Filters:
    """The filters of one output; ``held_back`` counts by reason what was not let through.

    The last publication is remembered for the 1024 cameras that published last.
    """

    def __init__(self, options: FilterOptions) -> None:
        self._labels = frozenset(options.labels)
        self._exclude = frozenset(options.exclude)
        self._min_score = options.min_score
        self._thins = bool(options.labels or options.exclude or options.min_score > 0)
        self._keep_empty = options.keep_empty
        self._on_change = options.on_change
        self._interval = 1 / options.max_rate_hz if options.max_rate_hz else 0.0
        self._remembers = self._on_change or self._interval > 0
        self._published: Recent[tuple[float, frozenset[str]]] = Recent()
        self.held_back: Counter[str] = Counter()

    def apply(self, result: Result, now: float) -> Result | None:
        """The result as it is to be published, or None; ``now`` is monotonic, in seconds."""
        result = self.thin(result)
        reason = self._objection(result, now)
        if reason:
            self.held_back[reason] += 1
            return None
        if self._remembers:
            self._published.put(result.frame.camera, (now, _labels(result)))
        return result

    def thin(self, result: Result) -> Result:
        """The result with only the predictions that are wanted; what has no label stays."""
        if not self._thins:
            return result
        kept = tuple([prediction for prediction in result.predictions if self._wants(prediction)])
        return result if len(kept) == len(result.predictions) else replace(result, predictions=kept)

    def _wants(self, prediction: Prediction) -> bool:
        if not isinstance(prediction, Labelled):
            return True
        return (
            prediction.score >= self._min_score
            and prediction.label not in self._exclude
            and (not self._labels or prediction.label in self._labels)
        )

    def _objection(self, result: Result, now: float) -> str | None:
        if not (self._keep_empty or result.predictions):
            return EMPTY
        if not self._remembers or (last := self._published.get(result.frame.camera)) is None:
            return None
        published_at, labels = last
        if self._on_change and labels == _labels(result):
            return UNCHANGED
        if now - published_at < self._interval:
            return RATE
        return None


def _labels(result: Result) -> frozenset[str]:
    return frozenset([prediction.label for prediction in result.predictions if isinstance(prediction, Labelled)])
