"""The language between the core and a worker, with no socket in it.

A message is a 12-byte header, a JSON object and a body of raw bytes::

    magic "VW" · version u8 · kind u8 · JSON length u32 · body length u32   (network byte order)

Pictures and input tensors do not travel here but in the ring (``ring.py``); what does is small, except for the
annotated pictures and raw tensors that an answer may bring back in its body.  Nothing is pickled, and a
length past ``MAX_JSON`` or ``MAX_BODY`` ends the conversation.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, Mapping, Union

__all__ = [
    "ANSWER",
    "BUSY",
    "ERROR",
    "INFER",
    "LOAD",
    "LOADED",
    "MAX_BODY",
    "MAX_JSON",
    "OUTPUTS",
    "RUN",
    "STOP",
    "VERSION",
    "Envelope",
    "MessageDecoder",
    "ProtocolError",
    "encode",
    "strict",
]

VERSION = 1
HEADER = struct.Struct("!2sBBII")
MAGIC = b"VW"
MAX_JSON = 64 * 1024 * 1024
MAX_BODY = 64 * 1024 * 1024

LOAD, INFER, RUN, STOP = 1, 2, 3, 4
LOADED, ANSWER, OUTPUTS, ERROR, BUSY = 17, 18, 19, 20, 21
"""INFER has a picture answered (ANSWER), RUN gives a network its raw tensors (OUTPUTS); ERROR may answer any.

While it loads (LOAD, then LOADED) a worker says now and then that it gets on (BUSY).
"""
KINDS = frozenset({LOAD, INFER, RUN, STOP, LOADED, ANSWER, OUTPUTS, ERROR, BUSY})

Buffer = Union[bytes, bytearray, memoryview]


class ProtocolError(Exception):
    """The other side does not speak this language."""


@dataclass(frozen=True)
class Envelope:
    """One message: its kind, its JSON text and its body; ``content`` parses the text."""

    kind: int
    text: bytes = b"{}"
    body: bytes = field(default=b"", repr=False)

    @property
    def content(self) -> Dict[str, Any]:
        """The JSON object; raises ``ProtocolError`` when it is none."""
        try:
            parsed = json.loads(self.text)
        except ValueError as error:
            raise ProtocolError(f"message {self.kind} carries no JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise ProtocolError(f"message {self.kind} carries {type(parsed).__name__}, not an object")
        return parsed


def encode(kind: int, content: Union[Mapping[str, Any], bytes, None] = None, body: Buffer = b"") -> bytes:
    """One message as bytes; ``content`` may be JSON text already."""
    text = content if isinstance(content, bytes) else json.dumps(content or {}, separators=(",", ":")).encode()
    return b"".join((HEADER.pack(MAGIC, VERSION, kind, len(text), len(body)), text, body))


def strict(content: Mapping[str, Any]) -> bytes:
    """JSON text as a strict reader takes it: half a character, which a label may hold, becomes a question mark.

    Raises ``ValueError`` for a number that is not finite.
    """
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace")


class MessageDecoder:
    """Bytes in any chunks → whole messages, in order."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: Buffer) -> Iterator[Envelope]:
        """Take the next bytes and give the messages they complete; raises ``ProtocolError``."""
        if not self._buffer and len(data) >= HEADER.size:
            # The usual case: one read brings one whole message, which needs no buffer.
            kind, text_length, body_length = _header(data)
            middle = HEADER.size + text_length
            if len(data) == middle + body_length:
                yield Envelope(kind, bytes(data[HEADER.size : middle]), bytes(data[middle:]))
                return
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            kind, text_length, body_length = _header(self._buffer)
            middle = HEADER.size + text_length
            end = middle + body_length
            if len(self._buffer) < end:
                return
            envelope = Envelope(kind, bytes(self._buffer[HEADER.size : middle]), bytes(self._buffer[middle:end]))
            del self._buffer[:end]
            yield envelope


def _header(buffer: Buffer) -> tuple[int, int, int]:
    magic, version, kind, text_length, body_length = HEADER.unpack_from(buffer)
    if magic != MAGIC:
        raise ProtocolError(f"expected {MAGIC!r}, got {bytes(magic)!r}")
    if version != VERSION:
        raise ProtocolError(f"expected version {VERSION}, got {version}")
    if kind not in KINDS:
        raise ProtocolError(f"no message is of kind {kind}")
    if text_length > MAX_JSON or body_length > MAX_BODY:
        raise ProtocolError(f"a message of {text_length} + {body_length} bytes is over the limit")
    return kind, text_length, body_length
