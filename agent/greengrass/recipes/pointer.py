"""JSON pointers (RFC 6901): a path into plain data as a text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["MISSING", "find", "tokens"]

_INDEX = re.compile(r"0|[1-9][0-9]{0,6}")

MISSING: Final = object()
"""What ``find`` gives where nothing is: null is a value."""


def tokens(pointer: str) -> tuple[str, ...] | None:
    """The keys of a pointer; none for the whole document, None when the text is no pointer."""
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        return None
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/"))


def find(value: Any, pointer: str) -> Any:
    """What the pointer addresses in plain data, or ``MISSING``."""
    path = tokens(pointer)
    if path is None:
        return MISSING
    for token in path:
        if isinstance(value, Mapping) and token in value:
            value = value[token]
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return MISSING
    return value
