"""A payload recognised as a picture, whatever it is wrapped in.

Theory of operation: the bytes decide.  A payload that starts like a picture is one, at once and without a copy.  Any
other is opened: what is inside is looked at as the payload was, until there is a picture or nothing is left to open.

==================================  ==============================================================================
what begins like                    is opened as
==================================  ==============================================================================
white space, NUL, a BOM             what stands behind it; at the end of a text they mean nothing either
gzip, zlib                          what they compressed (``packing``)
UTF-16                              the same text in UTF-8 (``packing``)
a JSON object or array              its values, the likeliest first (``envelope``)
a JSON text                         what the text says
a data URI, hexadecimal, base64     what they spell out (``spelling``)
anything else                       the pictures that lie whole in it, the largest first (``extent``)
==================================  ==============================================================================

A known format that is not taken is refused by its name.  The content type never overrules the bytes, it only words the
refusal when they say nothing.  Bytes are bounded first and pixels before the picture is handed on, both from the header
alone; how often and how much is opened is bounded too (``MAX_LAYERS``, ``MAX_OPENED``, ``_WORK``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from agent.config.streams import FrameLimits
from agent.errors import FrameError
from agent.frames import envelope, extent, foreign, headers, packing, pieces, spelling
from agent.frames.envelope import Fact, ImageCandidate
from agent.frames.frame import Picture
from agent.frames.pieces import Piece
from agent.text import leading, trimmed

__all__ = ["MAX_LAYERS", "MAX_OPENED", "REFUSALS", "read", "recognise"]

REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "empty-payload": "The message, or the value under its image key, is empty.",
        "too-many-bytes": "The payload is larger than the stream's limit, or is when it is decompressed.",
        "too-many-pixels": "The picture's header says more pixels than the stream's limit.",
        "truncated": "The bytes end before the picture's header does, or before the array of an .npy.",
        "not-an-image": "The bytes are no picture in a format that the agent takes.",
        "unsupported-format": "The bytes are a known format, or a kind of .npy, that the agent does not take.",
        "bad-base64": "The text is neither base64 nor a data URI.",
        "json-invalid": "The text starts like JSON and cannot be read as such.",
        "json-too-deep": "The JSON nests deeper than the limit.",
        "too-many-parts": "The JSON has more parts, or the picture more spelled-out numbers, than the bound.",
        "too-many-layers": "The picture is wrapped more often than is opened.",
        "no-image-key": "The JSON has no value that is a picture, or none where image_key says.",
        "url-not-fetched": "The message names a picture by URL and does not carry it.",
        "piece-alone": "The message is one piece of a picture; only a stream puts pieces together.",
    }
)

MAX_LAYERS = 8
"""How often a picture may be wrapped."""
MAX_OPENED = 64
"""Things that are opened of one payload."""
_WORK = 3
"""Bytes that are looked at in all, in multiples of the largest payload."""

_SAYS_NOTHING = frozenset({"not-an-image", "empty-payload", "bad-base64"})
"""Refusals of bytes that look like nothing known."""

Found: TypeAlias = Picture | Piece


def recognise(payload: bytes, content_type: str | None, limits: FrameLimits, image_key: str = "") -> Picture:
    """The picture in a payload: its encoded bytes, upright size and what stood beside it.

    ``image_key`` is the path of keys to it in JSON (``event.image``, ``inputs.0.data``); empty finds it.

    Raises:
        FrameError: with a code of ``REFUSALS``; nothing else, whatever the bytes are.
    """
    found = read(payload, content_type, limits, image_key)
    if isinstance(found, Picture):
        return found
    told = f"the message is a piece of a picture ({found})"
    raise FrameError(told, hint="a stream on its topic puts the pieces together", code="piece-alone")


def read(payload: bytes, content_type: str | None, limits: FrameLimits, image_key: str = "") -> Found:
    """The same, or the piece of a picture that a payload is."""
    if len(payload) > limits.max_bytes:
        raise FrameError(
            f"the payload has {len(payload)} bytes, the limit is {limits.max_bytes}",
            hint="send a smaller or more compressed picture, or raise max_bytes",
            code="too-many-bytes",
        )
    if headers.encoding_of(payload):
        return _picture(payload, limits)
    return _Opening(limits, content_type, image_key).look(payload)


def _picture(data: bytes, limits: FrameLimits) -> Picture:
    header = headers.read_header(data)
    if header.width * header.height > limits.max_pixels:
        raise FrameError(
            f"the picture has {header.width} × {header.height} = {header.width * header.height} pixels, "
            f"the limit is {limits.max_pixels}",
            hint="send a smaller picture, or raise max_pixels",
            code="too-many-pixels",
        )
    return Picture(data, header.encoding, header.width, header.height)


class _Opening:
    """What is opened of one payload, and what that may still cost."""

    def __init__(self, limits: FrameLimits, content_type: str | None, image_key: str) -> None:
        self._limits = limits
        self._declared = (content_type or "").lower()
        self._image_key = image_key
        self._openings = MAX_OPENED
        self._bytes = _WORK * limits.max_bytes

    def look(self, data: bytes, layer: int = 0, path: str = "") -> Found:
        """What these bytes are or hold; ``path`` is where they stood in the JSON around them."""
        self._spend(data, layer)
        if foreign.sure_format(data):
            raise headers.unknown(data)
        given, data = data, leading(data)
        if not data:
            raise headers.unknown(given) if b"\0" in given else _empty()
        if headers.encoding_of(data):
            return _picture(data, self._limits)
        if packing.compressed(data):
            opened = packing.decompressed(data, min(self._limits.max_bytes, self._bytes))
            return self.look(opened, layer + 1, path)
        text = trimmed(packing.narrow(data) or data)
        if text.startswith((b"{", b"[")):
            return self._in_json(text, data, layer, path)
        if text.startswith(b'"'):
            return self.look(spelling.unquoted(text), layer + 1, path)
        if text.isascii():
            return self._spelled(text, given, layer, path)
        found = self._among(data)
        if found is None:
            raise self._refusal(given, layer)
        return found

    def _spend(self, data: bytes, layer: int) -> None:
        self._openings -= 1
        self._bytes -= len(data)
        if layer > MAX_LAYERS or self._openings < 0 or self._bytes < 0:
            hint = "wrap the picture once: its bytes alone, or base64 in JSON"
            raise FrameError(f"the picture is wrapped more than {MAX_LAYERS} times", hint=hint, code="too-many-layers")

    def _in_json(self, text: bytes, data: bytes, layer: int, path: str) -> Found:
        """In the values of a JSON text; where that is none as a whole, among what stands behind or in it."""
        if not text.endswith((b"}", b"]")) and (found := self._among(data)):
            return found
        try:
            candidates = envelope.open_envelope(text, self._limits.max_json_depth, self._wanted(path))
        except FrameError as refused:
            found = self._among(data) if refused.code == "json-invalid" else None
            if found is None:
                raise
            return found
        return self._first(candidates, layer, path)

    def _first(self, candidates: Iterable[ImageCandidate], layer: int, path: str) -> Found:
        """What the likeliest candidate is; the next one where that is nothing."""
        refusals = []
        for candidate in candidates:
            where = f"{path}.{candidate.path}" if path else candidate.path
            place = pieces.place(candidate)
            try:
                found = self.look(candidate.opened(), layer + 1, where)
            except FrameError as refused:
                if place is not None:
                    return pieces.piece(candidate, place)
                told = f"under the key {where[:64]!r}: {refused.message}" if where else refused.message
                refusals.append(FrameError(told, hint=refused.hint, code=refused.code))
            else:
                if place is not None and not _is_whole(found):
                    return pieces.piece(candidate, place)
                return found if isinstance(found, Piece) else _with_facts(found, candidate.facts())
        raise refusals[0]  # of the likeliest candidate

    def _spelled(self, text: bytes, given: bytes, layer: int, path: str) -> Found:
        """What a text spells out; where it spells out nothing, what stands in it."""
        try:
            data = spelling.read(text)
        except FrameError as refused:
            if refused.code != "bad-base64":
                raise
            found = self._among(text)
            if found is None:
                raise self._refusal(given, layer, refused) from None
            return found
        try:
            return self.look(data, layer + 1, path)
        except FrameError as refused:
            if refused.code not in _SAYS_NOTHING or headers.encoding_of(data):
                raise
            if len(text) < spelling.SHORT:
                raise self._refusal(given, layer) from None
            raise FrameError(f"spelled out, {refused.message}", hint=refused.hint) from None

    def _among(self, data: bytes) -> Picture | None:
        """The largest picture that lies whole in other bytes, with the facts of the JSON before it."""
        found = max(extent.parts(data), key=lambda part: len(part.data), default=None)
        if found is None:
            return None
        facts = envelope.beside(data[: found.at], self._limits.max_json_depth)
        return _with_facts(_picture(found.data, self._limits), facts)

    def _wanted(self, path: str) -> str:
        """What is left of the image key for an envelope at ``path``; empty where that is behind it."""
        key = self._image_key
        return "" if path == key or path.startswith(f"{key}.") else key.removeprefix(f"{path}.")

    def _refusal(self, data: bytes, layer: int, refused: FrameError | None = None) -> FrameError:
        """Of bytes without a picture: what they look like, or, of a text that was meant to be one, what is wrong."""
        told = headers.unknown(data)
        if refused is not None and foreign.is_text(data) and told.code != "unsupported-format":
            told = refused if spelling.meant(data) else FrameError(told.message, hint=told.hint, code=refused.code)
        return told if layer else self._worded(told)

    def _worded(self, refused: FrameError) -> FrameError:
        """The refusal of bytes that say nothing themselves, worded by what the sender declared them to be."""
        if not self._declared or refused.code not in _SAYS_NOTHING:
            return refused
        code = refused.code
        if "json" in self._declared:
            code = "json-invalid"
        elif self._declared.startswith(("image/", "video/")):
            code = "not-an-image"
        told = f"declared as {self._declared[:64]!r}, {refused.message}"
        return FrameError(told, hint=refused.hint, code=code)


def _empty() -> FrameError:
    return FrameError("there are no bytes", hint=headers.ACCEPTED, code="empty-payload")


def _is_whole(found: Found) -> bool:
    return isinstance(found, Picture) and extent.end_of(found.encoding, found.data) is not None


def _with_facts(found: Picture, facts: Mapping[str, Fact]) -> Picture:
    """The same with what stood around it: nearer facts, and the nearer moment of capture, count."""
    moment = envelope.captured_at(facts) if found.captured_at is None else found.captured_at
    return replace(found, metadata=envelope.merged(found.metadata, facts), captured_at=moment)
