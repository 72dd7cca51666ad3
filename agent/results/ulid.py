"""Sortable unique ids: ULIDs, 48 bits of milliseconds and 80 random bits in Crockford's base 32.

Ids of one generator sort as text in the order they were made: within a millisecond, and when the clock
steps back, the next id is the last one plus one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

__all__ = ["ALPHABET", "Ulids"]

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)
_SHIFTS = range(120, -1, -10)
_RANDOM_BITS = 80


class Ulids:
    """A generator of ids; ``clock`` gives seconds since the epoch, ``entropy(n)`` gives n random bytes.

    >>> ids = Ulids(clock=lambda: 1.0, entropy=bytes)
    >>> ids.new(), ids.new()
    ('00000000Z80000000000000000', '00000000Z80000000000000001')
    """

    def __init__(self, clock: Callable[[], float] = time.time, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._clock = clock
        self._entropy = entropy
        self._last = -1

    def new(self) -> str:
        """The next id, 26 characters."""
        now_ms = int(self._clock() * 1e3)
        if now_ms > self._last >> _RANDOM_BITS:
            self._last = now_ms << _RANDOM_BITS | int.from_bytes(self._entropy(_RANDOM_BITS // 8), "big")
        else:
            self._last += 1
        value = self._last
        return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])
