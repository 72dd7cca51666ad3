"""Protobuf's text form, as label maps are written in it: ``item { id: 1 name: "cat" }``, read without a schema."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Any, Collection, Dict, Iterator, List, Match

__all__ = ["parse"]

_DEEPEST = 24
_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_TOKEN = re.compile(r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|[{}<>\[\]:;,]|[^\s{}<>\[\]:;,"'#]+""")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)")
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}
_MARKS = frozenset("{}<>[]:;,")
_ENDS = {"{": "}", "<": ">"}

Tokens = Iterator[str]


def parse(text: str, repeated: Collection[str] = ()) -> Dict[str, Any]:
    """The fields of a message: texts, dicts of messages below it, and lists of what is there more than once.

    Names are in lower case; those in ``repeated`` are lists however often they are there.  Raises ``ValueError``.
    """
    return _message(_tokens(text), "", repeated, 0)


def _tokens(text: str) -> Tokens:
    """Each word, text and mark."""
    at = _past_blanks(text, 0)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1} begins a text that does not end there")
        yield match[0]
        at = _past_blanks(text, match.end())


def _past_blanks(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at


def _message(tokens: Tokens, end: str, repeated: Collection[str], depth: int) -> Dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError("is nested too deeply")
    fields: Dict[str, List[Any]] = {}
    for word in tokens:
        if word == end:
            break
        if word in (",", ";"):
            continue
        if word in _MARKS:
            raise ValueError(f"has a {word} where a name belongs")
        fields.setdefault(word.lower(), []).extend(_values(tokens, word, repeated, depth))
    else:
        if end:
            raise ValueError(f"ends before a {end}")
    return {name: held[0] if len(held) == 1 and name not in repeated else held for name, held in fields.items()}


def _values(tokens: Tokens, name: str, repeated: Collection[str], depth: int) -> List[Any]:
    """What stands behind a field's name: a message, a text or a list of texts."""
    word = next(tokens, "")
    if word == ":":
        word = next(tokens, "")
    if word in _ENDS:
        return [_message(tokens, _ENDS[word], repeated, depth + 1)]
    if word == "[":
        return [_text(each) for each in takewhile(lambda each: each != "]", tokens) if each not in _MARKS]
    if not word or word in _MARKS:
        raise ValueError(f"says nothing of {name}")
    return [_text(word)]


def _text(word: str) -> str:
    """A text without its marks, whose escapes are those of C and stand for bytes of UTF-8."""
    if word[0] not in "\"'":
        return word
    return _ESCAPE.sub(_byte, word[1:-1].encode("utf-8", "replace")).decode("utf-8", "replace")


def _byte(escape: Match[bytes]) -> bytes:
    said = escape[1]
    if said[:1] == b"x" and len(said) > 1:
        return bytes([int(said[1:], 16)])
    return bytes([int(said, 8) & 0xFF]) if said[0] in b"01234567" else _LETTERS.get(said, said)
