"""A JSON message around a picture: which values may be the picture, and what stands beside them.

Theory of operation: the nesting is measured before anything is parsed, then the message is decoded one
level at a time with every value left as the bytes it came as (``msgspec.Raw``).  So only the values that
are looked at are ever built, and what a hostile message can cost is bounded by the scan.  Values under
a key of ``IMAGE_KEYS``, directly or one object deeper, are candidates; the largest comes first, since a
picture is larger than the words beside it (``{"image": "jpeg", "data": "/9j/…"}``).

msgspec was chosen because it decodes lazily and strictly, and reads base64 three times faster than
``binascii``.
"""

from __future__ import annotations

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

__all__ = [
    "IMAGE_KEYS",
    "MAX_CANDIDATES",
    "MAX_FACTS",
    "MAX_PARTS",
    "MAX_SPELLED",
    "TIME_KEYS",
    "Envelope",
    "ImageCandidate",
    "captured_at",
    "nesting",
    "open_envelope",
    "opening",
    "spelled",
    "url_refused",
]

IMAGE_KEYS = ("image", "imagebase64", "blob", "data", "frame", "payload", "b64", "img", "jpeg")
TIME_KEYS = ("capturedat", "timestamp", "ts", "time")
_URL_KEYS = ("url", "imageurl")
_METADATA_KEYS = ("metadata", "meta")

MAX_PARTS = 50_000
"""Strings, objects and arrays that a message may have: what bounds the scan's time."""
MAX_SPELLED = 1_000_000
"""Bytes of a picture that is spelled out as numbers: what bounds their time and memory."""
MAX_FACTS = 32
"""Facts kept of a message."""
MAX_CANDIDATES = 16
"""Values tried as the picture: one key can be spelled in many ways."""
_MAX_FACT_BYTES = 256

Members: TypeAlias = Mapping[str, Raw]
Fact: TypeAlias = str | int | float | bool

_BACKSLASH = 0x5C
_PART = re.compile(rb'["\[\]{}]')
_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # possessive: it never backtracks
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_PAIR = msgspec.json.Decoder(tuple[Raw, Raw])
_FACT = msgspec.json.Decoder(Fact)
_NUMBERS = msgspec.json.Decoder(list[int])
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError)

# Epochs count seconds, milli-, micro- or nanoseconds; the size of the number says which.
_EPOCH_UNITS = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (0.0, 1.0))
_YEAR_2000, _YEAR_2100 = 946_684_800.0, 4_102_444_800.0


@dataclass(frozen=True, slots=True)
class ImageCandidate:
    """A value that may be the picture, the path of keys to it, and the members of its object."""

    path: str
    value: Raw
    siblings: Members


@dataclass(frozen=True, slots=True)
class Envelope:
    """An opened message: at least one candidate, likeliest first, and the objects around all of them."""

    candidates: tuple[ImageCandidate, ...]
    outer: tuple[Members, ...]

    def facts(self, candidate: ImageCandidate) -> Mapping[str, Fact]:
        """The small scalars beside a candidate, those nearest to it first; at most ``MAX_FACTS``."""
        levels = (candidate.siblings, *self.outer)
        members = (pair for level in levels for pair in (*level.items(), *_declared(level)))
        return dict(islice(_facts(members), MAX_FACTS))


def open_envelope(text: bytes, max_depth: int) -> Envelope:
    """Find the picture's candidates in a JSON object or in the array ``[metadata, blob]``.

    Raises:
        FrameError: ``json-too-deep``, ``too-many-parts``, ``json-invalid``, ``url-not-fetched``, ``no-image-key``.
    """
    nesting(text, max_depth)
    outer = _outer(text)
    candidates = sorted(_candidates(outer[0]), key=lambda candidate: -len(memoryview(candidate.value)))
    if not candidates:
        raise _no_image(outer[0])
    return Envelope(tuple(candidates[:MAX_CANDIDATES]), outer)


def captured_at(facts: Mapping[str, Fact]) -> float | None:
    """When the picture was taken, in seconds since the epoch, if one of the facts says it."""
    plain = {_plain(key): fact for key, fact in facts.items()}
    times = (_epoch(plain[key]) for key in TIME_KEYS if key in plain)
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


def opening(value: Raw) -> bytes:
    """The first character of a JSON value, which says its kind."""
    return bytes(memoryview(value)[:1])


def spelled(value: Raw) -> bytes:
    """The bytes that a JSON array of numbers from 0 to 255 spells out.

    Raises:
        FrameError: ``not-an-image`` for any other array, ``too-many-parts`` past ``MAX_SPELLED`` numbers.
    """
    hint = "send the picture's bytes, or base64"
    text = bytes(value)
    if text.count(b",") >= MAX_SPELLED:
        raise FrameError(f"an array of more than {MAX_SPELLED} numbers", hint=hint, code="too-many-parts")
    try:
        return bytes(_NUMBERS.decode(text))
    except (*_MALFORMED, ValueError, OverflowError) as error:
        raise FrameError(f"the array is no list of bytes: {error}"[:300], hint=hint) from None


def _end_of_string(text: bytes, at: int) -> int:
    """The position after the quote that closes the string opened before ``at``."""
    quote = text.find(b'"', at)
    if quote < 0:
        return len(text)
    if text[quote - 1] != _BACKSLASH:
        return quote + 1
    whole = _STRING.match(text, at)
    return whole.end() if whole else len(text)


def _outer(text: bytes) -> tuple[Members, ...]:
    """The members of the message's object; of ``[metadata, blob]``, the blob and then the metadata."""
    if not text.startswith(b"["):
        return (_object(text),)
    try:
        metadata, blob = _PAIR.decode(text)
    except _MALFORMED as error:
        raise _unreadable(error) from None
    return {"blob": blob}, _object(metadata)


def _object(text: bytes | Raw) -> Members:
    try:
        return _OBJECT.decode(text)
    except _MALFORMED as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> FrameError:
    hint = "send a JSON object with the picture as base64 under 'image', or the picture's bytes alone"
    return FrameError(f"the JSON cannot be read: {error}"[:300], hint=hint, code="json-invalid")


def _candidates(members: Members, path: str = "") -> Iterator[ImageCandidate]:
    """The strings and arrays under an image key, and those one object deeper."""
    for key, value in members.items():
        if _plain(key) not in IMAGE_KEYS:
            continue
        if opening(value) == b"{" and not path:
            yield from _candidates(_object(value), f"{key}.")
        elif opening(value) in (b'"', b"["):
            yield ImageCandidate(path + key, value, members)


def _no_image(members: Members) -> FrameError:
    if any(_plain(key) in _URL_KEYS for key in members):
        return url_refused()
    keys = ", ".join(f"{key[:32]!r}" for key, _ in zip(members, range(8), strict=False))
    return FrameError(
        f"no key of the JSON holds a picture; its keys: {keys or 'none'}",
        hint=f"put base64 under one of {', '.join(IMAGE_KEYS)}",
        code="no-image-key",
    )


def url_refused() -> FrameError:
    """The refusal of a message that names a picture instead of carrying it."""
    hint = "send the picture itself; the agent fetches nothing that a message names"
    return FrameError("the message carries a URL and no picture", hint=hint, code="url-not-fetched")


def _facts(members: Iterable[tuple[str, Raw]]) -> Iterator[tuple[str, Fact]]:
    """The first small scalar of each key; words under an image key are a name or the picture itself, not a fact."""
    seen: set[str] = set()
    for key, value in members:
        if key in seen or len(key) > _MAX_FACT_BYTES:
            continue
        fact = _fact(value)
        if fact is None or (isinstance(fact, str) and _plain(key) in IMAGE_KEYS):
            continue
        seen.add(key)
        yield key, fact


def _declared(members: Members) -> Iterator[tuple[str, Raw]]:
    """The members of the objects under ``metadata`` and ``meta``."""
    for key, value in members.items():
        if _plain(key) in _METADATA_KEYS and opening(value) == b"{":
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


def _plain(key: str) -> str:
    """A key as the tables write it: ``imageBase64`` and ``image_base64`` are one."""
    return key.lower().replace("_", "").replace("-", "")
