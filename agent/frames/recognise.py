"""A payload recognised as a picture, whatever it is wrapped in.

Theory of operation: the bytes decide.  A payload that starts like a picture is one; a known format that
is not taken is refused by its name; what is left is text: a JSON envelope, a data URI or base64.  The
content type never overrules the bytes, it only words the refusal when they say nothing.  Bytes are
bounded first and pixels before the picture is handed on, both from the header alone; every unwrapping
makes a payload smaller, so the bound on its bytes bounds what it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import msgspec
from msgspec import Raw

from agent.config.streams import FrameLimits
from agent.errors import FrameError
from agent.frames import headers
from agent.frames.envelope import captured_at, open_envelope, opening, spelled, url_refused
from agent.frames.frame import Picture

__all__ = ["REFUSALS", "recognise"]

REFUSALS: Mapping[str, str] = MappingProxyType(
    {
        "empty-payload": "The message, or the value under its image key, is empty.",
        "too-many-bytes": "The payload is larger than the stream's limit.",
        "too-many-pixels": "The picture's header says more pixels than the stream's limit.",
        "truncated": "The bytes end before the picture's header does, or before the array of an .npy.",
        "not-an-image": "The bytes are no picture in a format that the agent takes.",
        "unsupported-format": "The bytes are a known format, or a kind of .npy, that the agent does not take.",
        "bad-base64": "The text is neither base64 nor a data URI.",
        "json-invalid": "The text starts like JSON and cannot be read as such.",
        "json-too-deep": "The JSON nests deeper than the limit.",
        "too-many-parts": "The JSON has more parts, or the picture more spelled-out numbers, than the bound.",
        "no-image-key": "The JSON has no key that holds a picture.",
        "url-not-fetched": "The message names a picture by URL and does not carry it.",
    }
)

_BASE64 = msgspec.json.Decoder(bytes)
_TEXT = msgspec.json.Decoder(str)
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n\v\f"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_URL_SCHEMES = (b"http://", b"https://", b"s3://", b"file://", b"rtsp://")


def recognise(payload: bytes, content_type: str | None, limits: FrameLimits) -> Picture:
    """The picture in a payload: its encoded bytes, upright size and what stood beside it.

    Raises:
        FrameError: with a code of ``REFUSALS``; nothing else, whatever the bytes are.
    """
    if len(payload) > limits.max_bytes:
        raise FrameError(
            f"the payload has {len(payload)} bytes, the limit is {limits.max_bytes}",
            hint="send a smaller or more compressed picture, or raise max_bytes",
            code="too-many-bytes",
        )
    if headers.encoding_of(payload) or headers.foreign_format(payload):
        return _picture(payload, limits)
    text = payload.removeprefix(_BYTE_ORDER_MARK).strip()
    if text.startswith((b"{", b"[")):
        return _from_json(text, limits)
    if text.startswith(b'"'):
        text = _unquoted(text)
    try:
        data = _from_text(text)
    except FrameError as refused:
        raise _unrecognised(payload, content_type, refused) from None
    return _picture(data, limits)


def _picture(data: bytes, limits: FrameLimits) -> Picture:
    if not data:
        raise FrameError("there are no bytes", hint=headers.ACCEPTED, code="empty-payload")
    header = headers.read_header(data)
    if header.width * header.height > limits.max_pixels:
        raise FrameError(
            f"the picture has {header.width} × {header.height} = {header.width * header.height} pixels, "
            f"the limit is {limits.max_pixels}",
            hint="send a smaller picture, or raise max_pixels",
            code="too-many-pixels",
        )
    return Picture(data, header.encoding, header.width, header.height)


def _from_json(text: bytes, limits: FrameLimits) -> Picture:
    envelope = open_envelope(text, limits.max_json_depth)
    refusals = []
    for candidate in envelope.candidates:
        try:
            picture = _picture(_from_value(candidate.value), limits)
        except FrameError as refused:
            where = f"under the key {candidate.path[:64]!r}: {refused.message}"
            refusals.append(FrameError(where, hint=refused.hint, code=refused.code))
        else:
            facts = envelope.facts(candidate)
            return replace(picture, metadata=facts, captured_at=captured_at(facts))
    raise refusals[0]  # of the likeliest candidate


def _from_value(value: Raw) -> bytes:
    """The bytes that a JSON value stands for: base64, a data URI or a list of byte numbers."""
    if opening(value) == b"[":
        return spelled(value)
    usual = _usual_base64(value)
    return _from_text(_unquoted(value)) if usual is None else usual


def _unquoted(text: bytes | Raw) -> bytes:
    """The text of a JSON string."""
    try:
        return _TEXT.decode(text).strip().encode()
    except (msgspec.DecodeError, UnicodeError) as error:
        hint = "send base64 between the quotes, and nothing after them"
        raise FrameError(f"the JSON text cannot be read: {error}", hint=hint, code="json-invalid") from None


def _from_text(text: bytes) -> bytes:
    """The bytes of a data URI or of base64."""
    start = text[:16].lower()
    if start.startswith(_URL_SCHEMES):
        raise url_refused()
    if start.startswith(b"data:"):
        return _from_data_uri(text)
    return _from_base64(text)


def _from_data_uri(text: bytes) -> bytes:
    head, comma, body = text.partition(b",")
    if not comma:
        raise FrameError("the data URI has no comma", hint="data:image/jpeg;base64,…", code="bad-base64")
    plain = _without_percent(body) if b"%" in body else body
    return _from_base64(plain) if head.rstrip().lower().endswith(b";base64") else plain


def _without_percent(text: bytes) -> bytes:
    """Percent-encoding undone, as JSON escapes: msgspec reads those without building an object for each."""
    try:
        return _TEXT.decode(b'"%b"' % text.replace(b"%", b"\\u00")).encode("latin-1")
    except (msgspec.DecodeError, UnicodeError) as error:
        hint = "write each byte of the data URI as % and two hexadecimal digits, or send base64"
        raise FrameError(f"the data URI cannot be read: {error}"[:300], hint=hint, code="bad-base64") from None


def _from_base64(text: bytes) -> bytes:
    """Base64 in either alphabet, whitespace and missing padding forgiven, anything else refused."""
    data = _usual_base64(b'"%b"' % text)
    if data is None:
        plain = text.translate(_URL_SAFE, _WHITESPACE)
        bare = plain.rstrip(b"=")
        padding = b"=" * (-len(bare) % 4)
        data = _usual_base64(b'"%b%b"' % (bare, padding)) if len(plain) <= len(bare) + len(padding) else None
    if data is None or b"\\" in text:  # a backslash was read as a JSON escape, which is no base64
        raise FrameError("the text is no base64", hint=headers.ACCEPTED, code="bad-base64")
    return data


def _usual_base64(quoted: bytes | Raw) -> bytes | None:
    """Base64 as most write it, on one line and padded, between quotes; None for any other text."""
    try:
        return _BASE64.decode(quoted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _unrecognised(payload: bytes, content_type: str | None, refused: FrameError) -> FrameError:
    """The refusal of bytes that say nothing themselves, worded by what the sender declared them to be."""
    declared = (content_type or "").lower()
    if refused.code != "bad-base64":
        return refused
    if "json" in declared:
        code = "json-invalid"
    elif declared.startswith(("image/", "video/")) or not payload.isascii():
        code = "not-an-image"
    else:
        return refused
    claim = f" declared as {declared[:64]!r}" if declared else ""
    return FrameError(
        f"{len(payload)} bytes{claim} that start with {payload[:8].hex(' ')} are no picture and no text that holds one",
        hint=headers.ACCEPTED,
        code=code,
    )
