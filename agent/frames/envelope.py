"""A JSON message around a picture: which values may be the picture, and what stands beside them.

Theory of operation: the nesting is measured before anything is parsed, then the message is decoded one
level at a time with every value left as the bytes it came as (``msgspec.Raw``).  So only the values that
are looked at are ever built, and what a hostile message can cost is bounded by the scan.

A value is a *candidate* where its first bytes say so, under any key: base64, hexadecimal or numbers that begin as a
picture does, or a text that can be opened further.  Under a key of ``IMAGE_KEYS`` every text and every array is
one.  Candidates are tried in this order (``Promise``): what begins as a picture, first under a key of ``IMAGE_KEYS``;
what stands under such a key; what can be opened.  Within each, the largest comes first, since a picture is larger
than the words beside it and than its own thumbnail; then the first.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TypeAlias

import msgspec
from msgspec import Raw

from agent.errors import FrameError
from agent.frames import headers, packing, spelling
from agent.frames.spelling import opening

__all__ = [
    "IMAGE_KEYS",
    "MAX_CANDIDATES",
    "MAX_FACTS",
    "MAX_PARTS",
    "TIME_KEYS",
    "Fact",
    "ImageCandidate",
    "Members",
    "beside",
    "captured_at",
    "merged",
    "nesting",
    "open_envelope",
    "plain",
]

IMAGE_KEYS = (
    "image", "imagebase64", "blob", "data", "frame", "payload", "b64", "img", "jpeg", "jpg", "png", "base64",
    "imageb64", "imagedata", "imagebytes", "photo", "picture", "pic", "snapshot", "bytes", "content", "body", "buffer",
    "chunk",
)  # fmt: skip
TIME_KEYS = ("capturedat", "timestamp", "ts", "time")
_URL_KEYS = ("url", "imageurl")
_METADATA_KEYS = ("metadata", "meta")

MAX_PARTS = 50_000
"""Strings, objects and arrays that a message may have: what bounds the scan's time."""
MAX_FACTS = 32
"""Facts kept of a message."""
MAX_CANDIDATES = 16
"""Values tried as the picture: one key can be spelled in many ways."""
_MAX_FACT_BYTES = 256
_LONGEST_KEY = 64
_SMALLEST = 32
"""Characters of a value that a picture may be in, where no usual key speaks for it."""

Members: TypeAlias = Mapping[str, Raw]
Fact: TypeAlias = str | int | float | bool


_BACKSLASH = 0x5C
_PART = re.compile(rb'["\[\]{}]')
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # possessive: it never backtracks
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_ARRAY = msgspec.json.Decoder(list[Raw])
_INNER_JSON = re.compile(rb'"(?:\s|\\[nrt])*(?:[{\[]|\\")')
_INNER_TEXT = re.compile(rb"\s*[{\[]")
_FACT = msgspec.json.Decoder(Fact)
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError)

# Epochs count seconds, milli-, micro- or nanoseconds; the size of the number says which.
_EPOCH_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (0.0, 1.0))
_YEAR_2000, _YEAR_2100 = 946_684_800.0, 4_102_444_800.0


class Promise(enum.IntEnum):
    """What speaks for a value; the least comes first."""

    USUAL_PICTURE = 0
    """It begins as a picture does, and stands under a usual key."""
    PICTURE = 1
    USUAL = 2
    OPENS = 3
    """It begins as a text or an archive does that may hold one."""


@dataclass(frozen=True, slots=True)
class ImageCandidate:
    """A value that may be the picture, the path of keys to it, and the objects around it, the nearest first."""

    path: str
    value: Raw
    around: tuple[Members, ...]
    promise: Promise

    def opened(self) -> bytes:
        """What the value says: the bytes of a list of numbers or of base64, or the text as it is."""
        if opening(self.value) == b"[":
            return spelling.numbers(self.value)
        return spelling.long_base64(self.value) or self.text()

    def text(self) -> bytes:
        """The text of the value, or the bytes of a list of numbers."""
        return spelling.numbers(self.value) if opening(self.value) == b"[" else spelling.unquoted(self.value)

    def facts(self) -> Mapping[str, Fact]:
        """The small scalars beside the value, those nearest to it first; at most ``MAX_FACTS``."""
        members = (
            (key, value)
            for level in self.around
            for key, value in (*level.items(), *_declared(level))
            if value is not self.value
        )
        return dict(islice(_facts(members), MAX_FACTS))


def open_envelope(text: bytes, max_depth: int, image_key: str = "") -> tuple[ImageCandidate, ...]:
    """The picture's candidates in a JSON object or array, likeliest first; at least one, at most ``MAX_CANDIDATES``.

    With an ``image_key``, which is a path as candidates have, only what stands there is one.

    Raises:
        FrameError: ``json-too-deep``, ``too-many-parts``, ``json-invalid``, ``url-not-fetched``, ``no-image-key``.
    """
    nesting(text, max_depth)
    if b"[" in text and text.count(b",") > spelling.MAX_SPELLED + MAX_PARTS:
        hint = "send the picture's bytes, or base64; pixels as numbers are not taken"
        raise FrameError(f"the JSON lists more than {spelling.MAX_SPELLED} values", hint=hint, code="too-many-parts")
    ordered = sorted(
        _candidates(text, _Search(image_key)),
        key=lambda candidate: (candidate.promise, -len(memoryview(candidate.value))),
    )
    if not ordered:
        raise _no_image(text, image_key)
    return tuple(ordered[:MAX_CANDIDATES])


def beside(text: bytes, max_depth: int) -> Mapping[str, Fact]:
    """The small scalars of a JSON object that stands somewhere in ``text``; none where there is none."""
    begins, ends = text.find(b"{"), text.rfind(b"}")
    if begins < 0 or ends < begins:
        return {}
    try:
        nesting(text[begins : ends + 1], max_depth)
        members = _object(text[begins : ends + 1])
        return dict(islice(_facts((*members.items(), *_declared(members))), MAX_FACTS))
    except FrameError:
        return {}


def merged(nearer: Mapping[str, Fact], farther: Mapping[str, Fact]) -> Mapping[str, Fact]:
    """The facts of two envelopes, one in the other: the nearer one's come first, and count where both have one."""
    if not nearer:
        return farther
    return dict(islice({**nearer, **{key: farther[key] for key in farther if key not in nearer}}.items(), MAX_FACTS))


def captured_at(facts: Mapping[str, Fact]) -> float | None:
    """When the picture was taken, in seconds since the epoch, if one of the facts says it."""
    by_key = {plain(key): fact for key, fact in facts.items()}
    times = (_epoch(by_key[key]) for key in TIME_KEYS if key in by_key)
    return next((time for time in times if time is not None), None)


def nesting(text: bytes, max_depth: int) -> int:
    """How deep the text's objects and arrays nest, brackets within strings not counted.

    Raises:
        FrameError: ``json-too-deep`` past ``max_depth``, ``too-many-parts`` past ``MAX_PARTS``.
    """
    depth = deepest = at = 0
    for _ in range(MAX_PARTS):
        part = _PART.search(text, at)
        if part is None:
            return deepest
        at = part.end()
        character = part[0]
        if character == b'"':
            at = _end_of_string(text, at)
        elif character in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > max_depth:
                hint = "send the picture at most one object deep"
                raise FrameError(f"the JSON nests deeper than {max_depth}", hint=hint, code="json-too-deep")
        else:
            depth -= 1
    hint = "send the picture with little beside it"
    raise FrameError(f"the JSON has more than {MAX_PARTS} parts", hint=hint, code="too-many-parts")


def plain(key: str) -> str:
    """A key as the tables write it: ``imageBase64`` and ``image_base64`` are one."""
    return key.lower().replace("_", "").replace("-", "") if len(key) <= _LONGEST_KEY else key


def _end_of_string(text: bytes, at: int) -> int:
    """The position after the quote that closes the string opened before ``at``."""
    quote = text.find(b'"', at)
    if quote < 0:
        return len(text)
    if text[quote - 1] != _BACKSLASH:
        return quote + 1
    whole = _STRING.match(text, at)
    return whole.end() if whole else len(text)


def _candidates(text: bytes, search: _Search) -> Iterator[ImageCandidate]:
    """In a message's object; in its array ``[metadata, picture]``, beside the metadata; in its array of numbers."""
    if text.startswith(b"{"):
        yield from search.members(_object(text), "", ())
    elif spelling.is_numbers(text):
        yield ImageCandidate("", Raw(text), (), Promise.USUAL)
    else:
        elements = _elements(text)
        metadata = tuple(_object(element) for element in elements[:1] if opening(element) == b"{")
        for number, element in enumerate(elements[:MAX_PARTS]):
            yield from search.value(element, str(number), "blob", metadata)


@dataclass(frozen=True, slots=True)
class _Search:
    """The walk through a message; ``wanted`` is the path to the only value that counts, or empty."""

    wanted: str

    def value(self, value: Raw, path: str, key: str, around: tuple[Members, ...]) -> Iterator[ImageCandidate]:
        """The candidates that a value is or holds; ``key`` is the nearest one around it."""
        kind = opening(value)
        if kind == b"{":
            yield from self.members(_object(value), path, around)
        elif kind == b'"' or (kind == b"[" and spelling.is_numbers(value)):
            promise = self._promise(value, path, key)
            if promise is not None:
                yield ImageCandidate(path, value, around, promise)
        elif kind == b"[":
            for number, element in enumerate(_elements(value)[:MAX_PARTS]):
                yield from self.value(element, _below(path, str(number)), key, around)

    def members(self, members: Members, path: str, around: tuple[Members, ...]) -> Iterator[ImageCandidate]:
        """The candidates among an object's members."""
        for key, value in members.items():
            yield from self.value(value, _below(path, key), key, (members, *around))

    def _promise(self, value: Raw, path: str, key: str) -> Promise | None:
        """What speaks for a text or an array of numbers; None where nothing does."""
        if self.wanted:
            return self._promise_of_path(value, path)
        usual = plain(key) in IMAGE_KEYS
        first = spelling.beginning(value) if len(memoryview(value)) >= _SMALLEST else b""
        if headers.encoding_of(first):
            return Promise.USUAL_PICTURE if usual else Promise.PICTURE
        if usual:
            return Promise.USUAL
        return Promise.OPENS if len(memoryview(value)) >= _SMALLEST and _opens(value, first) else None

    def _promise_of_path(self, value: Raw, path: str) -> Promise | None:
        if path == self.wanted or path.startswith(f"{self.wanted}."):
            return Promise.USUAL_PICTURE
        on_the_way = self.wanted.startswith(f"{path}.") and _opens(value, spelling.beginning(value))
        return Promise.OPENS if on_the_way else None


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _opens(value: Raw, first: bytes) -> bool:
    """Whether a text begins as JSON does, in the clear or spelled out, or is something compressed and spelled out."""
    start = bytes(memoryview(value)[:16])
    return bool(_INNER_JSON.match(start) or _INNER_TEXT.match(first)) or packing.compressed(first)


def _elements(text: bytes | Raw) -> list[Raw]:
    try:
        return _ARRAY.decode(text)
    except _MALFORMED as error:
        raise _unreadable(error) from None


def _object(text: bytes | Raw) -> Members:
    try:
        return _OBJECT.decode(text)
    except _MALFORMED as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> FrameError:
    hint = "send a JSON object with the picture as base64 under 'image', or the picture's bytes alone"
    return FrameError(f"the JSON cannot be read: {error}"[:300], hint=hint, code="json-invalid")


def _no_image(text: bytes, image_key: str) -> FrameError:
    members = {} if text.startswith(b"[") else _object(text)
    if any(plain(key) in _URL_KEYS for key in members):
        return spelling.url_refused()
    keys = ", ".join(f"{key[:32]!r}" for key, _ in zip(members, range(8), strict=False)) or "none"
    if image_key:
        told, hint = f"there is no {image_key[:64]!r} in the JSON", "image_key is the path to it, as in event.image"
    else:
        told = "no value of the JSON is a picture"
        hint = f"put base64 under one of {', '.join(IMAGE_KEYS[:8])}, or name the key by image_key"
    return FrameError(f"{told}; its keys: {keys}", hint=hint, code="no-image-key")


def _facts(members: Iterable[tuple[str, Raw]]) -> Iterator[tuple[str, Fact]]:
    """The first small scalar of each key; words under an image key are a name or the picture itself, not a fact."""
    seen: set[str] = set()
    for key, value in members:
        if key in seen or len(key) > _MAX_FACT_BYTES:
            continue
        fact = _fact(value)
        if fact is None or (isinstance(fact, str) and plain(key) in IMAGE_KEYS):
            continue
        seen.add(key)
        yield key, fact


def _declared(members: Members) -> Iterator[tuple[str, Raw]]:
    """The members of the objects under ``metadata`` and ``meta``."""
    for key, value in members.items():
        if plain(key) in _METADATA_KEYS and opening(value) == b"{":
            yield from _object(value).items()


def _fact(value: Raw) -> Fact | None:
    """A small string, number or boolean; None for everything else, which is left out of the metadata."""
    if len(memoryview(value)) > _MAX_FACT_BYTES:
        return None
    try:
        fact = _FACT.decode(value)
    except _MALFORMED:
        return None
    return fact if not isinstance(fact, int) or abs(fact) < 2**63 else None


def _epoch(fact: Fact) -> float | None:
    """Seconds since the epoch from a number or ISO 8601 (UTC where it names no zone); None for other times."""
    try:
        number = float(fact)
        seconds = number / next((divisor for above, divisor in _EPOCH_UNITS if number >= above), 1.0)
    except ValueError:
        seconds = _iso(str(fact))
    return seconds if _YEAR_2000 <= seconds < _YEAR_2100 else None


def _iso(text: str) -> float:
    """Seconds since the epoch, NaN where the text is no ISO 8601."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
