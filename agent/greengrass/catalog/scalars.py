"""Values that a cloud writes as text or as what they are: ``"2"``, ``2`` and ``2.0`` are one number.

Each reader gives the value, or None for what is no such value; the caller knows the key and says what is accepted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["boolean", "mapping", "number", "text"]

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_BOOLEANS: Final = {"true": True, "false": False}


def number(value: Any) -> float | None:
    """A finite number, native or as text with blanks around it; a boolean is none.

    >>> number(" 1.5 "), number(2), number("15 s"), number(True)
    (1.5, 2.0, None, None)
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return None
    elif not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def boolean(value: Any) -> bool | None:
    """A boolean, native or as ``true`` or ``false`` in any case.

    >>> boolean(" True"), boolean(False), boolean("yes"), boolean(1)
    (True, False, None, None)
    """
    if isinstance(value, bool):
        return value
    return _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None


def text(value: Any) -> str | None:
    """A text without the blanks around it, and without a NUL."""
    return value.strip() if isinstance(value, str) and "\0" not in value else None


def mapping(value: Any) -> Mapping[str, Any] | None:
    """A mapping, native or as the text of a JSON object.

    >>> mapping('{"a": 1}'), mapping("a")
    ({'a': 1}, None)
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None
