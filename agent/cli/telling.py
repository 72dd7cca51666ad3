"""What is told to a person of a prediction: its name, its score, and the rest in a few words (pure).

Large parts are told by their size and range, and by their first numbers: ``--out`` writes all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.inference import masks, planes
from agent.inference.predictions import (
    Anomaly,
    Box,
    Classification,
    Detection,
    Embedding,
    Image,
    Keypoint,
    Keypoints,
    Map,
    Mask,
    Prediction,
    Segmentation,
    Tensor,
    Text,
    headline,
    label_of,
    numbers_of,
    score_of,
)
from agent.inference.values import Answer

__all__ = ["Told", "bar", "box_of", "first_of", "told"]

FIRST: Final = 4
"""Numbers that are shown of many."""
_BAR = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_WHITE = 255


@dataclass(frozen=True, slots=True)
class Told:
    """A line of a table, or several."""

    name: str
    score: float | None
    details: tuple[str, ...]
    """One for each line."""
    depth: int = 0
    """Of a part of a detection: how many it is a part of."""


def told(prediction: Prediction, answer: Answer, depth: int = 0) -> Iterator[Told]:
    """The prediction, and behind it its parts."""
    details = tuple(filter(None, _DETAILS[type(prediction)](prediction, answer)))
    yield Told(_name(prediction), score_of(prediction), details, depth)
    if isinstance(prediction, Detection):
        for part in prediction.parts:
            yield from told(part, answer, depth + 1)


def box_of(prediction: Prediction) -> Box | None:
    """Where it is, of what has a box."""
    return prediction.box if isinstance(prediction, Detection | Text) else None


def bar(share: float) -> str:
    """A bar of ten cells for 1; eighths of a cell are seen."""
    eighths = round(max(0.0, min(1.0, share)) * _BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def first_of(numbers: Sequence[float]) -> str:
    """The first few numbers.

    >>> first_of([1, 0.25, -3, 4, 5])
    '1, 0.25, -3, 4, …'
    """
    words = ", ".join(f"{number:.4g}" if isinstance(number, float) else str(number) for number in numbers[:FIRST])
    return words + (", …" if len(numbers) > FIRST else "")


def _name(prediction: Prediction) -> str:
    match prediction:
        case Map():
            return "map"
        case Keypoints() | Embedding() if not label_of(prediction):
            return "key points" if isinstance(prediction, Keypoints) else "embedding"
        case Tensor():
            return prediction.name
        case _:
            return headline(prediction)[0]


# -- what else each kind has, line by line -----------------------------------------------------------------------------

Lines = Iterator[str]


def _class(prediction: Classification, _: Answer) -> Lines:
    yield bar(prediction.score)


def _object(prediction: Detection, answer: Answer) -> Lines:
    yield _place(prediction.box, answer)
    if prediction.angle is not None and (degrees := round(prediction.angle)):
        yield f"turned by {degrees}°"
    if prediction.mask:
        yield f"mask of {_area(prediction.mask):.1%}"
    if prediction.keypoints:
        yield from _points(prediction.keypoints)
    if prediction.track_id is not None:
        yield f"track {prediction.track_id}"


def _segment(prediction: Segmentation, _: Answer) -> Lines:
    yield f"{prediction.area:6.1%}  {bar(prediction.area)}"


def _pose(prediction: Keypoints, _: Answer) -> Lines:
    yield from _points(prediction.keypoints)


def _anomaly(prediction: Anomaly, _: Answer) -> Lines:
    if prediction.threshold is not None:
        yield f"{'≥' if prediction.anomalous else '<'} threshold {prediction.threshold:.3g}"
    if prediction.map:
        yield f"map {_levels(prediction.map, 0.0, 1.0)}"


def _text(prediction: Text, answer: Answer) -> Lines:
    if prediction.box:
        yield _place(prediction.box, answer)
    if scores := prediction.character_scores:
        worst = min(range(len(scores)), key=scores.__getitem__)
        which = repr(prediction.text[worst]) if worst < len(prediction.text) else f"character {worst + 1}"
        yield f"least sure of {which}: {scores[worst]:.3f}"


def _embedding(prediction: Embedding, _: Answer) -> Lines:
    numbers = numbers_of(prediction) or ()
    yield f"{prediction.size} numbers, norm {math.hypot(*numbers):.4g}"
    yield first_of(numbers)


def _map(prediction: Map, _: Answer) -> Lines:
    unit = f" {prediction.unit}" if prediction.unit else ""
    yield f"{_levels(prediction.map, prediction.minimum, prediction.maximum)}{unit}"


def _tensor(prediction: Tensor, _: Answer) -> Lines:
    yield f"{prediction.dtype} {list(prediction.shape)}"
    numbers = numbers_of(prediction)
    if numbers is None:
        yield "no numbers that can be read"
        return
    finite = [number for number in numbers if math.isfinite(number)]
    if finite:
        yield f"{_number(min(finite))} to {_number(max(finite))}"
    yield first_of(numbers)
    if len(finite) < len(numbers):
        yield f"{len(numbers) - len(finite)} are not finite"


_DETAILS: Final[Mapping[type[Prediction], Callable[[Any, Answer], Lines]]] = {
    Classification: _class,
    Detection: _object,
    Segmentation: _segment,
    Keypoints: _pose,
    Anomaly: _anomaly,
    Text: _text,
    Embedding: _embedding,
    Map: _map,
    Tensor: _tensor,
}


def _place(box: Box, answer: Answer) -> str:
    """In pixels of the frame."""
    x, width = round(box.x * answer.width), round(box.width * answer.width)
    y, height = round(box.y * answer.height), round(box.height * answer.height)
    return f"{x:4d}, {y:<4d}  {width} × {height}"


def _points(points: Sequence[Keypoint]) -> Lines:
    """How many, and the most and the least certain one."""
    yield f"{len(points)} point{'' if len(points) == 1 else 's'}"
    scored = sorted((point.score, point.name) for point in points if point.score is not None)
    ends = (("best", scored[-1]), ("worst", scored[0])) if len(scored) > 1 else ()
    for word, (score, name) in ends:
        yield f"{word} {score:.3f} {name}".rstrip()


def _area(mask: Mask | Image) -> float:
    """The share of the frame that a mask covers; 0 for one that cannot be read."""
    try:
        covered = masks.area(mask) if isinstance(mask, Mask) else sum(planes.bits(mask) or b"")
    except ValueError:
        return 0.0
    return covered / (mask.width * mask.height)


def _levels(image: Image, low: float, high: float) -> str:
    """The values that are in a map, and its size."""
    size = f"{image.width} × {image.height}"
    levels = planes.levels(image)
    if not levels:
        return size
    least, most = (low + level * (high - low) / _WHITE for level in (min(levels), max(levels)))
    return f"{size}, {least:.4g} to {most:.4g}"


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
