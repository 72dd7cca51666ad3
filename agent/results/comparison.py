"""Whether two answers to one frame say the same.

- classes: both name the same label first, or both name nothing;
- boxes: every box of either has one of the other's with the same label that covers it (intersection over union of
  at least one half), one to one, so that a box found twice is a disagreement;
- tensors: names and shapes are the same and every number is close.

Answers of different kinds do not agree.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from agent.results.result import Box, Prediction, Tensor

__all__ = ["Predictions", "agree", "difference"]

MIN_IOU: Final = 0.5
MAX_BOXES: Final = 200
"""Of more, the surest are compared: pairing costs the square of their number."""
RELATIVE: Final = 1e-2
ABSOLUTE: Final = 1e-3
"""How close two numbers of a tensor are: a converted or requantised model answers a little differently."""

Predictions: TypeAlias = Sequence[Prediction | Tensor]


def agree(old: Predictions, new: Predictions) -> bool:
    """Whether two answers to one frame say the same; answers of different kinds do not."""
    if any(isinstance(each, Tensor) for each in (*old, *new)):
        return _same_tensors(old, new)
    olds, news = ([each for each in answer if isinstance(each, Prediction)] for answer in (old, new))
    if any(each.box is not None for each in (*olds, *news)):
        return _same_boxes(olds, news)
    return _label(_top(olds)) == _label(_top(news))


def difference(expected: Predictions, found: Predictions) -> str:
    """What ``found`` says otherwise than ``expected``, as the rest of a sentence; empty when they agree.

    >>> difference([Prediction("cat", 1, 0.9)], [Prediction("dog", 2, 0.6)])
    'says dog (0.60), not cat (0.90)'
    """
    if agree(expected, found):
        return ""
    if any(isinstance(each, Tensor) for each in (*expected, *found)):
        return _other_tensors(expected, found)
    ones, others = ([each for each in answer if isinstance(each, Prediction)] for answer in (expected, found))
    if any(each.box is not None for each in (*ones, *others)):
        return _other_boxes(ones, others)
    return f"says {_said(_top(others))}, not {_said(_top(ones))}"


# -- classes ------------------------------------------------------------------------------------------------


def _top(predictions: Sequence[Prediction]) -> Prediction | None:
    return max(predictions, key=lambda each: each.score) if predictions else None


def _label(prediction: Prediction | None) -> str | None:
    return prediction.label if prediction else None


def _said(prediction: Prediction | None) -> str:
    return f"{prediction.label} ({prediction.score:.2f})" if prediction else "nothing"


# -- boxes --------------------------------------------------------------------------------------------------


def _same_boxes(old: Sequence[Prediction], new: Sequence[Prediction]) -> bool:
    """Whether the boxes pair up one to one."""
    if len(old) != len(new) or any(each.box is None for each in (*old, *new)):
        return False
    old, new = (sorted(each, key=lambda one: -one.score)[:MAX_BOXES] for each in (old, new))
    fitting = [[index for index, other in enumerate(new) if _covers(each, other)] for each in old]
    partner: dict[int, int] = {}
    return all(_paired(index, fitting, partner, set()) for index in range(len(old)))


def _paired(index: int, fitting: Sequence[Sequence[int]], partner: dict[int, int], tried: set[int]) -> bool:
    """Find a partner for one old box, moving others to their next choice (an augmenting path)."""
    for other in fitting[index]:
        if other not in tried:
            tried.add(other)
            if other not in partner or _paired(partner[other], fitting, partner, tried):
                partner[other] = index
                return True
    return False


def _covers(old: Prediction, new: Prediction) -> bool:
    return old.label == new.label and old.box is not None and new.box is not None and _iou(old.box, new.box) >= MIN_IOU


def _iou(one: Box, other: Box) -> float:
    """Intersection over union; 0 where both are empty."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(width, 0.0) * max(height, 0.0)
    union = one.width * one.height + other.width * other.height - common
    return common / union if union > 0 else 0.0


def _other_boxes(expected: Sequence[Prediction], found: Sequence[Prediction]) -> str:
    if len(expected) != len(found):
        return f"finds {_objects(len(found))}, not {len(expected)}"
    missing = next((each for each in expected if not any(_covers(each, other) for other in found)), None)
    if missing is not None:
        named = any(other.label == missing.label for other in found)
        return f"finds {missing.label} elsewhere" if named else f"finds no {_said(missing)}"
    extra = next((each for each in found if not any(_covers(other, each) for other in expected)), None)
    return f"finds {_said(extra)} too" if extra is not None else "finds an object twice"


def _objects(count: int) -> str:
    return {0: "nothing", 1: "1 object"}.get(count, f"{count} objects")


# -- tensors ------------------------------------------------------------------------------------------------


def _same_tensors(old: Predictions, new: Predictions) -> bool:
    olds, news = _tensors(old), _tensors(new)
    if len(olds) != len(old) or len(news) != len(new) or olds.keys() != news.keys():
        return False
    return all(_close(olds[name], news[name]) for name in olds)


def _tensors(answer: Predictions) -> dict[str, Tensor]:
    return {each.name: each for each in answer if isinstance(each, Tensor)}


_LETTERS: Final = {
    "float16": "e", "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H",
    "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q", "bool": "?",
}  # fmt: skip


def _close(old: Tensor, new: Tensor) -> bool:
    """Whether two tensors have one shape and close numbers; what cannot be read agrees only with itself."""
    if old.shape != new.shape:
        return False
    ones, others = _flat(old), _flat(new)
    if ones is None or others is None:
        return old == new
    if len(ones) != len(others):
        return False
    return all(_near(one, other) for one, other in zip(ones, others, strict=True))


def _near(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _other_tensors(expected: Predictions, found: Predictions) -> str:
    ones, others = _tensors(expected), _tensors(found)
    if len(ones) != len(expected) or len(others) != len(found) or ones.keys() != others.keys():
        return f"gives {_outputs(others)}, not {_outputs(ones)}"
    name = next(name for name in ones if not _close(ones[name], others[name]))
    one, other = ones[name], others[name]
    if one.shape != other.shape:
        return f"gives {name!r} of shape {list(other.shape)}, not {list(one.shape)}"
    far = _farthest(_flat(one) or (), _flat(other) or ())
    return f"gives {name!r} with {far[1]:.4g} where {far[0]:.4g} is expected" if far else f"gives another {name!r}"


def _outputs(tensors: dict[str, Tensor]) -> str:
    return f"the outputs {', '.join(tensors)}" if tensors else "no outputs"


def _farthest(ones: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """The pair of numbers that are farthest from each other; a NaN is as far as can be."""
    pairs = [pair for pair in zip(ones, others, strict=False) if not _near(*pair)]
    return max(pairs, key=lambda pair: math.inf if math.isnan(sum(pair)) else abs(pair[0] - pair[1]), default=None)


def _flat(tensor: Tensor) -> Sequence[float] | None:
    """The numbers of a tensor in C order; None where its data is none."""
    if tensor.encoding is None:
        return _numbers(tensor.data)
    letter = _LETTERS.get(tensor.dtype)
    if letter is None or not isinstance(tensor.data, str):
        return None
    try:
        raw = base64.b64decode(tensor.data, validate=True)
        return [number for (number,) in struct.iter_unpack("<" + letter, raw)]
    except (binascii.Error, struct.error):
        return None


def _numbers(data: Any) -> list[float] | None:
    """Nested lists of numbers as one list, in order; nothing here recurses."""
    found: list[float] = []
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list | tuple):
            waiting.extend(reversed(item))
        elif isinstance(item, int | float):
            found.append(item)
        else:
            return None
    return found
