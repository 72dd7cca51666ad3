"""Bytes that are spelled out: base64, hexadecimal, a data URI, a list of numbers.

msgspec reads base64 three times faster than ``binascii``, and its JSON escapes undo percent-encoding without an object
for each sign.  ``beginning`` decodes the first few bytes only: it tells what a value would be, for the price of none of
the rest.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Raw

from agent.errors import FrameError
from agent.frames.headers import ACCEPTED, encoding_of

__all__ = [
    "MAX_SPELLED", "SHORT", "beginning", "is_numbers", "long_base64", "meant", "numbers", "opening", "read", "unquoted",
    "url_refused",
]  # fmt: skip

MAX_SPELLED = 1_000_000
"""Bytes of a picture that is spelled out as numbers: what bounds their time and memory."""

SHORT: Final = 64
"""A text of fewer characters is rather a word than base64 of something."""
_SAMPLE = 256
_BASE64 = msgspec.json.Decoder(bytes)
_TEXT = msgspec.json.Decoder(str)
_NUMBERS = msgspec.json.Decoder(list[int])
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n\v\f"
_URL_SCHEMES = (b"http://", b"https://", b"s3://", b"file://", b"rtsp://", b"ftp://")
_LEAD = re.compile(rb"""(?:\s|\\[nrt])*(?:b['"])?(?:data:[^,"]{0,128},)?(?:\s|\\[nrt])*""", re.IGNORECASE)
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/]{4,}")
_HEX = re.compile(
    rb"(?:0x)?(?:(?i:ffd8ff|89504e47|52494646|424d|934e554d|1f8b)|(?=[a-fA-F]{0,63}\d)(?=[0-9a-f]{64}|[0-9A-F]{64}))(?:[0-9a-fA-F]{2})*"
)
"""Begins as a picture does, or goes on for too long to be base64 by chance."""
_PYTHON_BYTES = re.compile(rb"""b(['"])([A-Za-z0-9+/=_-]+)\1""")
_NUMBER = re.compile(rb"\[\s*[-\d\]]")
_FIRST_NUMBERS = re.compile(rb"\[\s*(-?\d{1,3}(?:\s*,\s*-?\d{1,3}){0,31})")


def read(text: bytes) -> bytes:
    """The bytes of a data URI, of hexadecimal or of base64.

    Raises:
        FrameError: ``url-not-fetched``, ``bad-base64``.
    """
    start = text[:16].lower()
    if start.startswith(_URL_SCHEMES):
        raise url_refused()
    if start.startswith(b"data:"):
        return _from_data_uri(text)
    if _HEX.match(text[:_SAMPLE]):
        return _from_hex(text)
    printed = _PYTHON_BYTES.fullmatch(text) if start[:2] in {b"b'", b'b"'} else None
    return _from_base64(printed[2] if printed else text)


def beginning(value: bytes | Raw) -> bytes:
    """The first bytes that a JSON string or an array of numbers stands for, as far as they are plain to see."""
    sample = bytes(memoryview(value)[:_SAMPLE])
    if sample[:1] == b"[":
        found = _FIRST_NUMBERS.match(sample)
        return bytes(int(number) & 0xFF for number in found[1].split(b",")[:-1]) if found else b""
    text = sample[1:].replace(b"\\/", b"/")
    text = text[_lead(text) :]
    if found := _HEX.match(text):
        plain = found[0].lower().removeprefix(b"0x")
        return bytes.fromhex(plain.decode())
    run = _BASE64_RUN.match(text.translate(_URL_SAFE))
    if run is None:
        return b""
    return _usual_base64(b'"%b"' % run[0][: len(run[0]) // 4 * 4]) or b""


def meant(text: bytes) -> bool:
    """Whether a text was meant to spell out a picture, so that its sender wants to know what is wrong with it."""
    return text[:5].lower() == b"data:" or encoding_of(beginning(b'"' + text[:_SAMPLE])) is not None


def long_base64(quoted: bytes | Raw) -> bytes | None:
    """What a JSON text says as base64, where it is long enough to be that rather than a word; else None."""
    if len(memoryview(quoted)) < SHORT or _HEX.match(bytes(memoryview(quoted)[1:_SAMPLE])):
        return None
    return _usual_base64(quoted)


def opening(value: Raw) -> bytes:
    """The first character of a JSON value, which says its kind."""
    return bytes(memoryview(value)[:1])


def is_numbers(value: bytes | Raw) -> bool:
    """Whether a JSON array is empty or begins with a number."""
    return _NUMBER.match(bytes(memoryview(value)[:64])) is not None


def numbers(value: bytes | Raw) -> bytes:
    """The bytes that a JSON array of numbers spells out: from 0 to 255, or from -128 to 127 as Java has them.

    Raises:
        FrameError: ``not-an-image`` for any other array, ``too-many-parts`` past ``MAX_SPELLED`` numbers.
    """
    hint = "send the picture's bytes, or base64"
    text = bytes(value)
    if text.count(b",") >= MAX_SPELLED:
        raise FrameError(f"an array of more than {MAX_SPELLED} numbers", hint=hint, code="too-many-parts")
    try:
        spelled = _NUMBERS.decode(text)
        if b"-" in text:
            spelled = [number + 256 if -128 <= number < 0 else number for number in spelled]  # noqa: PLR2004 of a byte
        return bytes(spelled)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise FrameError(f"the array is no list of bytes: {error}"[:300], hint=hint) from None


def unquoted(text: bytes | Raw) -> bytes:
    """The text of a JSON string."""
    try:
        return _TEXT.decode(text).encode()
    except (msgspec.DecodeError, UnicodeError) as error:
        hint = "send base64 between the quotes, and nothing after them"
        raise FrameError(f"the JSON text cannot be read: {error}", hint=hint, code="json-invalid") from None


def _usual_base64(quoted: bytes | Raw) -> bytes | None:
    """Base64 as most write it, on one line and padded, between quotes; None for any other text."""
    try:
        return _BASE64.decode(quoted)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def url_refused() -> FrameError:
    """The refusal of a message that names a picture instead of carrying it."""
    hint = "send the picture itself; the agent fetches nothing that a message names"
    return FrameError("the message carries a URL and no picture", hint=hint, code="url-not-fetched")


def _lead(text: bytes) -> int:
    """How much of a text stands before its base64: blanks, the head of a data URI."""
    lead = _LEAD.match(text)
    return lead.end() if lead else 0


def _from_data_uri(text: bytes) -> bytes:
    head, comma, body = text.partition(b",")
    if not comma:
        raise FrameError("the data URI has no comma", hint="data:image/jpeg;base64,…", code="bad-base64")
    plain = _without_percent(body) if b"%" in body else body
    return _from_base64(plain) if head.rstrip().lower().endswith(b";base64") else plain


def _without_percent(text: bytes) -> bytes:
    """Percent-encoding undone, as JSON escapes."""
    try:
        return _TEXT.decode(b'"%b"' % text.replace(b"%", b"\\u00")).encode("latin-1")
    except (msgspec.DecodeError, UnicodeError) as error:
        hint = "write each byte of the data URI as % and two hexadecimal digits, or send base64"
        raise FrameError(f"the data URI cannot be read: {error}"[:300], hint=hint, code="bad-base64") from None


def _from_hex(text: bytes) -> bytes:
    plain = text[2:] if text[:2] in {b"0x", b"0X"} else text
    try:
        return bytes.fromhex(plain.decode("ascii"))
    except ValueError:
        hint = "two hexadecimal digits for each byte, and nothing else; or base64"
        raise FrameError(
            "the text begins like a picture in hexadecimal and is none", hint=hint, code="bad-base64"
        ) from None


def _from_base64(text: bytes) -> bytes:
    """Base64 in either alphabet, whitespace and missing padding forgiven, anything else refused."""
    data = _usual_base64(b'"%b"' % text)
    if data is None:
        plain = text.translate(_URL_SAFE, _WHITESPACE)
        bare = plain.rstrip(b"=")
        padding = b"=" * (-len(bare) % 4)
        data = _usual_base64(b'"%b%b"' % (bare, padding)) if len(plain) <= len(bare) + len(padding) else None
    if data is None or b"\\" in text:  # a backslash was read as a JSON escape, which is no base64
        raise FrameError("the text is no base64", hint=ACCEPTED, code="bad-base64")
    return data
