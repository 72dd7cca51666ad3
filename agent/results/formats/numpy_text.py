"""How NumPy prints a row of float32, without NumPy: the core must not import it, and readers parse its text.

With NumPy's default print options each number has the fewest digits that distinguish it from its float32
neighbours, at most eight of them after the point, and is padded with blanks to the widest.  Very small
numbers, or a span of more than 1000 within the row, switch the whole row to exponents.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

__all__ = ["row"]

_PLACES = 8
_LARGE, _SMALL, _SPAN = 1e6, 0.0001, 1000.0
# Six significant digits survive any float32 that is printed plain, nine always distinguish two.
_PLAIN = (".6g", ".7g", ".8g", ".9g")
_EXPONENT = tuple(f".{digits}e" for digits in range(9))
_pack = struct.Struct("<f").pack


def row(values: Sequence[float]) -> str:
    """Numbers below 1e38, rounded to float32, as ``str(numpy.array(values, numpy.float32))`` reads.

    >>> row((0.25, 0.1, 1.0, 0.123456789))
    '[0.25       0.1        1.         0.12345679]'
    """
    rounded = _float32(*values)
    texts = _scientific(rounded) if _needs_exponents(rounded) else _positional(rounded)
    return f"[{' '.join(texts)}]"


def _float32(*values: float) -> list[float]:
    return array("f", values).tolist()


def _needs_exponents(values: Sequence[float]) -> bool:
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return False
    largest, smallest = max(sizes), min(sizes)
    # Limit and quotient are rounded to float32, as NumPy's are.
    limit, span = _float32(_SMALL, largest / smallest)
    return largest >= _LARGE or smallest < limit or span > _SPAN


def _positional(values: Sequence[float]) -> list[str]:
    parts = [_plain(value).partition(".") for value in values]
    left = max([len(whole) for whole, _, _ in parts])
    right = max([len(fraction) for _, _, fraction in parts])
    return [f"{whole.rjust(left)}.{fraction.ljust(right)}" for whole, _, fraction in parts]


def _scientific(values: Sequence[float]) -> list[str]:
    mantissas = [_shortest(value, _EXPONENT).partition("e")[0] for value in values]
    digits = max([len(mantissa.partition(".")[2]) for mantissa in mantissas])
    texts = [f"{value:#.{digits}e}" for value in values]
    width = max([len(text) for text in texts])
    return [text.rjust(width) for text in texts]


def _plain(value: float) -> str:
    text = _shortest(value, _PLAIN)
    if len(text) > _PLACES and len(text.partition(".")[2]) > _PLACES:
        return f"{value:.{_PLACES}f}".rstrip("0")
    return text


def _shortest(value: float, specs: Sequence[str]) -> str:
    """The fewest digits that are this float32 and no other."""
    packed = _pack(value)
    for spec in specs[:-1]:
        text = format(value, spec)
        if _pack(float(text)) == packed:
            return text
    return format(value, specs[-1])
