"""Text that others wrote, made fit to be shown: a terminal, a log and a pager obey some characters.

What came over the network may hold them: an escape sequence that clears the screen or sets its title, a C1 code that
begins one, a newline that makes a line of its own, a mark that turns the reading direction around, a character without
width.  None of them is passed on: each is shown as an escape.

And bytes that hold a text, without what means nothing around it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

__all__ = ["as_json_text", "leading", "shown", "shown_within", "trimmed"]

_SPACES = "Zs"
_NOTHING = b" \t\r\n\v\f\0"
_LEAD = re.compile(rb"(?:[ \t\r\n\v\f\0]++|\xef\xbb\xbf)++")


def shown(text: str, keep: str = "") -> str:
    r"""The text with each character that is not seen, or acts, as an escape; those in ``keep`` stay.

    >>> shown("\x1b[2Jline\n\u202e\u200b\x9b")
    '\\x1b[2Jline\\n\\u202e\\u200b\\x9b'
    >>> shown("Käse \N{CAT FACE} 12\u00a0°C")
    'Käse 🐱 12\xa0°C'
    """
    if text.isprintable():
        return text
    return "".join(one if _is_seen(one) or one in keep else one.encode("unicode_escape").decode() for one in text)


def shown_within(value: Any) -> Any:
    r"""A value of JSON with each of its texts ``shown``, newlines too: none of them makes a line of its own.

    >>> shown_within({"reason": ["no\nsigned by its root"]})
    {'reason': ['no\\nsigned by its root']}
    """
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, dict):
        return {shown_within(key): shown_within(one) for key, one in value.items()}
    return [shown_within(one) for one in value] if isinstance(value, list) else value


def as_json_text(text: str) -> str:
    r"""JSON with the same characters as escapes of JSON: the same value, whoever reads it.

    >>> as_json_text('"\u202ea\x7f"')
    '"\\u202ea\\u007f"'
    """
    if text.isprintable():
        return text
    return "".join(one if _is_seen(one) or one in "\n\t" else _json_escape(one) for one in text)


def leading(data: bytes) -> bytes:
    r"""The bytes without white space, NUL and byte order marks before them.

    >>> leading(b"\r\n\xef\xbb\xbf\xff\xd8\xff \n")
    b'\xff\xd8\xff \n'
    """
    before = _LEAD.match(data)
    return data[before.end() :] if before else data


def trimmed(data: bytes) -> bytes:
    r"""A text as it was meant: without white space, NUL and byte order marks around it.

    C programs send the NUL that ends their strings, editors write the mark, shells and terminals add a line's end.

    >>> trimmed(b'\xef\xbb\xbf{"a": 1}\r\n\0')
    b'{"a": 1}'
    """
    return leading(data).rstrip(_NOTHING)


def _is_seen(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == _SPACES


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
