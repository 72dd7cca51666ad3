"""YAML as label files and exporters write it, read where no YAML library is.

Block and flow mappings and lists; plain, quoted and block scalars; comments; one document.  What is beyond that
(anchors, aliases, tags, complex keys) is refused rather than guessed.  Every scalar is text and every key too:
``no``, ``on`` and ``1_000`` are names of classes here, and nobody's truth values or numbers.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any, Dict, List, NoReturn, Optional, Tuple

__all__ = ["parse"]

_DEEPEST = 24
_BLANKS = " \t\n"
"""YAML's own: other blanks, such as Japanese ones, may be the name of a character."""
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_RESERVED = tuple("&*!|>%@`")
_QUOTED = r'"(?:\\[\s\S]|[^"\\])*"|' + r"'(?:''|[^'])*'"
_WHOLE = re.compile(_QUOTED)
_KEY = re.compile(rf"""((?:{_QUOTED})\s*|[^\s"'\[\]{{}}#,](?:[^:#]|:(?=\S)|(?<=\S)\#)*?):(?:\s+|$)""", re.ASCII)
_BLOCK = re.compile(r"([|>])[-+0-9]{0,2}\s*(?:#.*)?", re.ASCII)
_COMMENT = re.compile(r"(?:^|\s)#.*", re.ASCII)
_BETWEEN = re.compile(r"(?:\s|(?<!\S)#[^\n]*)*", re.ASCII)
_IN_FLOW = re.compile(r"(?:[^\s,\[\]{}:#]|:(?![\s,\[\]{}]|$)|(?<=\S)#|\s+(?=[^\s,\[\]{}:#]))+", re.ASCII)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}|.)")
_FOLD = re.compile(r"(?<![ \t])[ \t]*\n\s*", re.ASCII)
_JOINED = re.compile(r"\\\n[ \t]*")
_ESCAPES = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


def parse(text: str) -> Any:
    """The document as dicts, lists, texts and None; raises ``ValueError`` that names the line."""
    return _Document(re.sub(r"\r\n?", "\n", text)).read()


class _Document:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = text.split("\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in self._lines)]
        self._at = 0
        """The line that is read next."""
        self._behind = 0
        """Where that line begins for now: behind the dashes that have been read."""

    def read(self) -> Any:
        while self._peek()[1].startswith("%"):
            self._step()
        if _COMMENT.sub("", self._peek()[1]).strip(_BLANKS) == "---":
            self._step()
        indent, content = self._peek()
        value = self._block(indent, 0) if content else None
        if self._peek()[1]:
            self._refuse("is not understood here")
        return value

    def _refuse(self, what: str) -> NoReturn:
        at = min(self._at, len(self._lines) - 1)
        raise ValueError(f"line {at + 1} {what}: {self._lines[at].strip(_BLANKS)[:60]}")

    def _step(self, lines: int = 1) -> None:
        self._at += lines
        self._behind = 0

    def _peek(self) -> Tuple[int, str]:
        """The indentation and content of the next line that says something; -1 and nothing at the end."""
        while self._at < len(self._lines):
            line = self._lines[self._at][self._behind :]
            content = line.strip(_BLANKS)
            if _said(content):
                indent = len(line) - len(line.lstrip(" "))
                if line[indent] == "\t":
                    self._refuse("is indented by a tab")
                return (-1, "") if content == "..." and not self._behind + indent else (self._behind + indent, content)
            self._step()
        return -1, ""

    # -- blocks --------------------------------------------------------------------------------------------------------

    def _block(self, indent: int, depth: int) -> Any:
        """The value that begins on the next line, which is indented by ``indent``."""
        if depth > _DEEPEST:
            self._refuse("is nested too deeply")
        content = self._peek()[1]
        if _is_item(content):
            return self._list(indent, depth)
        if _KEY.match(content):
            return self._mapping(indent, depth)
        return self._value(indent, indent - 1, depth)

    def _list(self, indent: int, depth: int) -> List[Any]:
        items: List[Any] = []
        while True:
            place, content = self._peek()
            if place != indent or not _is_item(content):
                return items
            rest = content[1:].lstrip(_BLANKS)
            inner = indent + len(content) - len(rest)
            if not _said(rest):
                self._step()
                items.append(self._below(indent, depth))
            elif _is_item(rest) or _KEY.match(rest):
                self._behind = inner
                items.append(self._block(inner, depth + 1))
            else:
                items.append(self._value(inner, indent, depth))

    def _mapping(self, indent: int, depth: int) -> Dict[str, Any]:
        entries: Dict[str, Any] = {}
        while True:
            place, content = self._peek()
            key = _KEY.match(content) if place == indent and not _is_item(content) else None
            if key is None:
                return entries
            name = _unquoted(key[1])
            if name in entries or _is_reserved(key[1]):
                self._refuse("has a key that is there already, or is none")
            if _said(content[key.end() :]):
                entries[name] = self._value(indent + key.end(), indent, depth)
            else:
                self._step()
                entries[name] = self._below(indent, depth, lists_beside=True)

    def _below(self, indent: int, depth: int, *, lists_beside: bool = False) -> Any:
        """The block under a key or a dash; None where there is none."""
        place, content = self._peek()
        if place > indent or (lists_beside and place == indent and _is_item(content)):
            return self._block(place, depth + 1)
        return None

    # -- what stands behind a key or a dash, up to its end on this line or a later one ---------------------------------

    def _value(self, column: int, indent: int, depth: int) -> Any:
        rest = self._lines[self._at][column:].strip(_BLANKS)
        block = _BLOCK.fullmatch(rest)
        if block:
            return self._text_block(indent, block[1])
        if _is_reserved(rest):
            self._refuse("has an anchor, an alias or a tag")
        start = self._starts[self._at] + column
        if rest[0] in "[{":
            value, end = self._flow(start, depth)
            return self._until(end, value)
        if rest[0] in "\"'":
            text, end = self._quoted(start)
            return self._until(end, text)
        return self._plain(rest, indent)

    def _until(self, end: int, value: Any) -> Any:
        """The value that ends at this place in the text, behind which a comment may stand alone."""
        self._step(self._text.count("\n", self._starts[self._at], end))
        if _said(self._text[end : self._starts[self._at + 1]].strip(_BLANKS)):
            self._refuse("goes on behind the end of a text or of brackets")
        self._step()
        return value

    def _text_block(self, indent: int, style: str) -> str:
        """Every line that is deeper."""
        self._step()
        first = self._at
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip(_BLANKS) and len(line) - len(line.lstrip(" ")) <= indent:
                break
            self._step()
        return (
            (" " if style == ">" else "\n")
            .join(line.strip(_BLANKS) for line in self._lines[first : self._at])
            .strip(_BLANKS)
        )

    def _plain(self, rest: str, indent: int) -> Optional[str]:
        """A scalar without quotes, which goes on in deeper lines."""
        parts = [_COMMENT.sub("", rest).strip(_BLANKS)]
        self._step()
        while True:
            place, content = self._peek()
            if place <= indent or _KEY.match(content):
                return _scalar(" ".join(parts))
            parts.append(_COMMENT.sub("", content).strip(_BLANKS))
            self._step()

    def _quoted(self, start: int) -> Tuple[str, int]:
        """The quoted text at a place in the document, and where it ends."""
        whole = _WHOLE.match(self._text, start)
        if not whole:
            self._refuse("begins a quoted text without an end")
        return _unquoted(whole[0]), whole.end()

    def _flow(self, start: int, depth: int) -> Tuple[Any, int]:
        """The list or mapping in brackets at a place in the document, and where it ends."""
        if depth > _DEEPEST:
            self._refuse("is nested too deeply")
        closing = {"[": "]", "{": "}"}[self._text[start]]
        items: List[Any] = []
        entries: Dict[str, Any] = {}
        at = self._skip(start + 1)
        while self._text[at] != closing:
            value, at = self._flow_value(at, depth)
            if closing == "]":
                items.append(value)
            elif not isinstance(value, str) or value in entries:
                self._refuse("has brackets with a key that is there already, or is none")
            elif self._text[at] == ":":
                entries[value], at = self._flow_value(self._skip(at + 1), depth)
            else:
                entries[value] = None
            if self._text[at] == ",":
                at = self._skip(at + 1)
            elif self._text[at] != closing:
                self._refuse(f"has brackets that are not closed by {closing}")
        return (items if closing == "]" else entries), at + 1

    def _flow_value(self, at: int, depth: int) -> Tuple[Any, int]:
        """A value within brackets, and where what follows it begins."""
        if self._text[at] in "[{":
            value, end = self._flow(at, depth + 1)
            return value, self._skip(end)
        if self._text[at] in "\"'":
            text, end = self._quoted(at)
            return text, self._skip(end)
        if self._text[at] in ",}]":
            return None, at
        plain = _IN_FLOW.match(self._text, at)
        if not plain or _is_reserved(plain[0]):
            self._refuse("has brackets with something else than names in them")
        return _scalar(_FOLD.sub(" ", plain[0])), self._skip(plain.end())

    def _skip(self, at: int) -> int:
        """Past blanks, ends of lines and comments."""
        between = _BETWEEN.match(self._text, at)
        end = between.end() if between else at
        if end >= len(self._text):
            self._refuse("has brackets without an end")
        return end


def _said(content: str) -> bool:
    return bool(content) and not content.startswith("#")


def _is_item(content: str) -> bool:
    return content == "-" or content.startswith(("- ", "-\t"))


def _is_reserved(text: str) -> bool:
    """Whether a scalar begins with one of the marks that are beyond this reader."""
    return text.startswith((*_RESERVED, "? ")) or text == "?"


def _scalar(text: str) -> Optional[str]:
    return None if text in _NULLS else text


def _unquoted(text: str) -> str:
    """A key's or a quoted scalar's text, folded into one line."""
    text = text.strip(_BLANKS)
    if text[0] == "'":
        return _FOLD.sub(" ", text[1:-1]).replace("''", "'")
    if text[0] == '"':
        folded = _FOLD.sub(" ", _JOINED.sub("", text[1:-1]))
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1]) or _character(found[1]), folded)
    return text


def _character(escape: str) -> str:
    """What an escape stands for that is no letter of its own: a number in base 16, or the letter itself."""
    return chr(int(escape[1:], 16)) if len(escape) > 1 else escape
