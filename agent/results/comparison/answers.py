"""Two answers to one frame: whether they say the same, and what they say otherwise.

``difference`` is between two models, neither of which is the measure: each prediction of either has to have one of the
other's to itself.  ``missing`` is between what is asked for and what came: more is no difference.  How one prediction
is held against another is in ``pairs``, and the parts of a detection are answers of their own.

Of the classes of a picture the first one counts, the others being its rivals; where their scores are more than 1
together they are no rivals, and all that are likelier than not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from agent.inference.predictions import (
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Keypoints,
    Map,
    Prediction,
    Segmentation,
    Tensor,
    Text,
    headline,
    score_of,
)
from agent.results.comparison.pairing import unmatched
from agent.results.comparison.pairs import Gap, Terms, gap, least
from agent.results.comparison.tensors import numbers_differ

__all__ = ["Predictions", "agree", "difference", "is_multi_label", "missing", "shown", "wanted"]

MAX_OBJECTS: Final = 200
"""Of more, the surest are compared: pairing costs the square of their number."""
_LIKELY: Final = 0.5
_RIVALS: Final = 1.01
"""What the scores of classes that exclude each other are together at most, rounded as they are."""
_LAST: Final = 99
_SHOWN: Final = 3

Predictions: TypeAlias = Sequence[Prediction]
Kind = TypeVar("Kind", bound=Prediction)


def agree(one: Predictions, other: Predictions, *, aspect: float = 1.0) -> bool:
    """Whether two answers to one frame say the same; ``aspect`` is its width in its heights."""
    return not difference(one, other, aspect=aspect)


def difference(expected: Predictions, actual: Predictions, *, aspect: float = 1.0) -> str:
    """What ``actual`` says otherwise than ``expected``, as the rest of a sentence; empty when they agree.

    >>> difference([Classification("cat", 1, 0.9)], [Classification("dog", 2, 0.6)])
    'says dog (0.60), not cat (0.90)'
    """
    return _difference(expected, actual, Terms(aspect=aspect))


def missing(expected: Predictions, actual: Predictions, terms: Terms) -> str:
    """What is asked for and did not come, as a sentence; empty when all did, each with a partner of its own."""
    fits = partial(_fits, terms=terms)
    for kind in _TOLD:
        ones, others = _of_kind(kind, expected), _of_kind(kind, actual)
        lonely = unmatched(ones, others, fits)
        if lonely is not None:
            near, found = _nearest(lonely, others, terms)
            got = f"{shown([near])} with {found.words}" if near and found.words else shown(others or actual)
            return f"expected {wanted(lonely, terms.tolerances.tolerance)}, got {got}"
    return ""


def is_multi_label(classes: Predictions) -> bool:
    """Whether several classes may be right of one picture: their scores are more than 1 together."""
    return sum(one.score for one in classes if isinstance(one, Classification)) > _RIVALS


def wanted(prediction: Prediction, tolerance: float) -> str:
    """What is asked for, with the score that it has to reach and its place.

    >>> wanted(Classification("cat", 1, 0.9), 0.1)
    'cat ≥ 0.80'
    """
    name, score = headline(prediction)
    if isinstance(prediction, Anomaly):
        return f"{name} {score:.2f} ± {tolerance:g}"
    named = name if score is None or least(score, tolerance) <= 0 else f"{name} ≥ {least(score, tolerance):.2f}"
    box = prediction.box if isinstance(prediction, Detection | Text) else None
    return f"{named} at {_place(box)}" if box else named


def shown(predictions: Predictions) -> str:
    """The first few, each in a word and its score."""
    headlines = [headline(one) for one in predictions[:_SHOWN]]
    words = [name if score is None else f"{name} {score:.2f}" for name, score in headlines]
    more = [f"{len(predictions) - _SHOWN} more"] if len(predictions) > _SHOWN else []
    return ", ".join(words + more) or "nothing"


# -- pairs -------------------------------------------------------------------------------------------------------------


def _fits(one: Prediction, other: Prediction, terms: Terms) -> bool:
    return _gap(one, other, terms) is None


def _gap(one: Prediction, other: Prediction, terms: Terms) -> Gap | None:
    """As ``gap``, with the parts of a detection."""
    found = gap(one, other, terms)
    if found or not isinstance(one, Detection) or not isinstance(other, Detection):
        return found
    words = (_difference if terms.exact else missing)(one.parts, other.parts, terms)
    return Gap(_LAST, f"other parts ({words})") if words else None


def _nearest(one: Kind, others: Sequence[Kind], terms: Terms) -> tuple[Kind | None, Gap]:
    """Which of the others passes the most measures, and why it is none all the same."""
    gaps = [(other, found) for other in others if (found := _gap(one, other, terms))]
    return max(gaps, key=lambda pair: pair[1].steps, default=(None, Gap(0)))


def _of_kind(kind: type[Kind], answer: Predictions) -> list[Kind]:
    return [one for one in answer if isinstance(one, kind)]


# -- two models --------------------------------------------------------------------------------------------------------


def _difference(expected: Predictions, actual: Predictions, terms: Terms) -> str:
    for kind, told in _TOLD.items():
        ones: Predictions = _of_kind(kind, expected)
        others: Predictions = _of_kind(kind, actual)
        if kind is Classification:
            ones, others = _that_count(ones, others), _that_count(others, ones)
        if not _paired(ones, others, terms):
            return told(ones, others, terms)
    return ""


def _that_count(ones: Predictions, others: Predictions) -> Predictions:
    """The first of the classes of a picture, or all that are likely."""
    if is_multi_label(ones) or is_multi_label(others):
        return [one for one in ones if _score(one) >= _LIKELY]
    return sorted(ones, key=_score, reverse=True)[:1]


def _paired(ones: Predictions, others: Predictions, terms: Terms) -> bool:
    if len(ones) != len(others):
        return False
    if len(ones) > MAX_OBJECTS:
        ones, others = (sorted(answer, key=_score, reverse=True)[:MAX_OBJECTS] for answer in (ones, others))
    return unmatched(ones, others, partial(_fits, terms=terms)) is None


def _score(prediction: Prediction) -> float:
    return score_of(prediction) or 0.0


# -- what is told of each kind when its predictions cannot be paired ---------------------------------------------------


def _objects_told(expected: Predictions, actual: Predictions, terms: Terms) -> str:
    if len(expected) != len(actual):
        return f"finds {_objects(len(actual))}, not {len(expected)}"
    lonely = _lonely(expected, actual, terms)
    if lonely is not None:
        name, found = headline(lonely)[0], _nearest(lonely, actual, terms)[1]
        if not found.steps:
            return f"finds no {_scored(lonely)}"
        return f"finds {name} with {found.words}" if found.words else f"finds {name} elsewhere"
    extra = _lonely(actual, expected, terms)
    return f"finds {_scored(extra)} too" if extra is not None else "finds an object twice"


def _lonely(ones: Sequence[Kind], others: Predictions, terms: Terms) -> Kind | None:
    """The first that fits none of the others."""
    return next((one for one in ones if not any(_fits(one, other, terms) for other in others)), None)


def _objects(count: int) -> str:
    return {0: "nothing", 1: "1 object"}.get(count, f"{count} objects")


def _verdicts_told(expected: Predictions, actual: Predictions, terms: Terms) -> str:
    """Of what a picture usually has once: a class, a verdict, a vector, a map."""
    lonely = _lonely(expected, actual, terms)
    words = _nearest(lonely, actual, terms)[1].words if lonely is not None else ""
    return f"gives {words}" if words else f"says {_listed(actual)}, not {_listed(expected)}"


def _texts_told(expected: Sequence[Text], actual: Sequence[Text], terms: Terms) -> str:
    lonely = _lonely(expected, actual, terms)
    if lonely is not None and (words := _nearest(lonely, actual, terms)[1].words):
        return f"reads {lonely.text!r} with {words}"
    got, others = (", ".join(repr(one.text) for one in answer) or "nothing" for answer in (actual, expected))
    return f"reads {got}, not {others}"


def _tensors_told(expected: Sequence[Tensor], actual: Sequence[Tensor], terms: Terms) -> str:
    ones, others = ({one.name: one for one in answer} for answer in (expected, actual))
    if len(ones) != len(expected) or len(others) != len(actual) or ones.keys() != others.keys():
        return f"gives {_outputs(others)}, not {_outputs(ones)}"
    limits = terms.tolerances
    words = (numbers_differ(one, others[name], rtol=limits.rtol, atol=limits.atol) for name, one in ones.items())
    return f"gives {next(filter(None, words), 'other outputs')}"


def _outputs(tensors: Mapping[str, Tensor]) -> str:
    return f"the outputs {', '.join(tensors)}" if tensors else "no outputs"


def _listed(predictions: Predictions) -> str:
    return ", ".join(map(_scored, predictions[:_SHOWN])) or "nothing"


def _scored(prediction: Prediction) -> str:
    name, score = headline(prediction)
    return name if score is None else f"{name} ({score:.2f})"


def _place(box: Box) -> str:
    return f"({box.x:.2f}, {box.y:.2f}, {box.width:.2f} × {box.height:.2f})"


_TOLD: Final[Mapping[type[Prediction], Callable[[Any, Any, Terms], str]]] = {
    Tensor: _tensors_told,
    Detection: _objects_told,
    Segmentation: _objects_told,
    Keypoints: _objects_told,
    Classification: _verdicts_told,
    Anomaly: _verdicts_told,
    Text: _texts_told,
    Embedding: _verdicts_told,
    Map: _verdicts_told,
}
