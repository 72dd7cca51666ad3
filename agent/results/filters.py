"""Which results are worth publishing, and which of their predictions.

A result passes four questions in this order: which predictions stay (label, score), may it be empty, is it
news, is it time.  What has no label or no score stays, whatever is asked of them.  The parts of a detection are asked
too: with a detection that is wanted by its label they stay, and one that is not stays for those of its parts that are.
News is another set of labels and texts, parts included.

State changes only when a result is let through: a change that came too soon is published with the first frame that is
due.  A result held back is counted and its frame stays answered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from operator import is_

from msgspec.structs import replace

from agent.config.streams import FilterOptions
from agent.inference.predictions import Detection, Parts, Prediction, Text, label_of, score_of
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
        self._published: Recent[tuple[float, frozenset[str | None]]] = Recent()
        self.held_back: Counter[str] = Counter()

    def apply(self, result: Result, now: float) -> Result | None:
        """The result as it is to be published, or None; ``now`` is monotonic, in seconds."""
        result = self.thin(result)
        reason = self._objection(result, now)
        if reason:
            self.held_back[reason] += 1
            return None
        if self._remembers:
            self._published.put(result.frame.camera, (now, frozenset(_words(result.predictions))))
        return result

    def thin(self, result: Result) -> Result:
        """The result with only the predictions that are wanted, and only those parts of them."""
        if not self._thins:
            return result
        kept = self._thinned(result.predictions, self._is_wanted)
        return result if kept is result.predictions else replace(result, predictions=kept)

    def _thinned(
        self, given: tuple[Prediction, ...], is_wanted: Callable[[str | None], bool]
    ) -> tuple[Prediction, ...]:
        """Those whose label ``is_wanted``; the very same where all of them are."""
        kept = tuple([thinned for one in given if (thinned := self._one(one, is_wanted)) is not None])
        return given if len(kept) == len(given) and all(map(is_, kept, given)) else kept

    def _one(self, prediction: Prediction, is_wanted: Callable[[str | None], bool]) -> Prediction | None:
        label, score = label_of(prediction), score_of(prediction)
        if label in self._exclude or (score is not None and score < self._min_score):
            return None
        wanted = is_wanted(label)
        if type(prediction) is not Detection or not prediction.parts:
            return prediction if wanted else None
        parts = self._thinned(prediction.parts, _any if wanted else self._labels.__contains__)
        if not (wanted or parts):
            return None
        return prediction if parts is prediction.parts else replace(prediction, parts=Parts(parts))

    def _is_wanted(self, label: str | None) -> bool:
        return label is None or not self._labels or label in self._labels

    def _objection(self, result: Result, now: float) -> str | None:
        if not (self._keep_empty or result.predictions):
            return EMPTY
        if not self._remembers or (last := self._published.get(result.frame.camera)) is None:
            return None
        published_at, words = last
        if self._on_change and words == set(_words(result.predictions)):
            return UNCHANGED
        if now - published_at < self._interval:
            return RATE
        return None


def _any(label: str | None) -> bool:
    del label
    return True


def _words(predictions: Iterable[Prediction]) -> Iterator[str | None]:
    """The labels and the texts, those of parts included."""
    for one in predictions:
        yield one.text if type(one) is Text else label_of(one)
        if type(one) is Detection and one.parts:
            yield from _words(one.parts)
