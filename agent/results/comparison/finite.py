"""Whether all numbers of an answer are numbers: what is not finite can neither be compared nor written as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from agent.inference.predictions import Embedding, Prediction, Tensor, numbers_of

__all__ = ["unfinite"]


def unfinite(predictions: Iterable[Prediction]) -> str:
    """Where the first number is that is not finite; empty when all are."""
    for number, prediction in enumerate(predictions):
        for value in _numbers(prediction):
            if not math.isfinite(value):
                return f"prediction {number} holds {value}"
    return ""


def _numbers(value: Any) -> Iterator[float]:
    """The numbers of a value, wherever in it they are."""
    if isinstance(value, Tensor | Embedding):
        yield from numbers_of(value) or ()
    if isinstance(value, float):
        yield value
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _numbers(getattr(value, field))
    elif isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
