"""Who goes with whom: each of these with one of those to itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

__all__ = ["unmatched"]

T = TypeVar("T")


def unmatched(ones: Sequence[T], others: Sequence[Any], fits: Callable[[T, Any], bool]) -> T | None:
    """The first of ``ones`` that gets none of ``others`` to itself, however they are paired; None when all do."""
    fitting = [[number for number, other in enumerate(others) if fits(one, other)] for one in ones]
    partner: dict[int, int] = {}

    def paired(number: int, tried: set[int]) -> bool:
        # An augmenting path: partners move to their next choice to make room.
        for candidate in fitting[number]:
            if candidate not in tried:
                tried.add(candidate)
                if candidate not in partner or paired(partner[candidate], tried):
                    partner[candidate] = number
                    return True
        return False

    return next((one for number, one in enumerate(ones) if not paired(number, set())), None)
