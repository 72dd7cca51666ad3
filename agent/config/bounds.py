"""The kinds of numbers and texts that keys hold, each with its bounds: a value outside is refused wherever it is read.

Every bound has two ends: TOML knows ``inf``, and what is counted or waited for is never endless.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from msgspec import Meta

__all__ = [
    "LONGEST_S",
    "MIB",
    "ClientId",
    "Count",
    "DiskBytes",
    "Fraction",
    "Host",
    "MemoryBytes",
    "Name",
    "OptionalPath",
    "PathText",
    "Pause",
    "Port",
    "Rate",
    "ReceiveMaximum",
    "Seconds",
    "SessionSeconds",
    "Text",
    "Timeout",
]

MIB: Final = 1024 * 1024
LONGEST_S: Final = 31_622_400
"""A leap year."""

Timeout: TypeAlias = Annotated[float, Meta(gt=0, le=3600)]
"""Seconds that something may take."""
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=LONGEST_S)]
"""An interval or an age."""
Pause: TypeAlias = Annotated[float, Meta(ge=0, le=3600)]
"""Seconds that are waited; 0 is not at all."""
Rate: TypeAlias = Annotated[float, Meta(gt=0, le=1000)]
"""Times per second."""
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]

Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
MemoryBytes: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 40)]
DiskBytes: TypeAlias = Annotated[int, Meta(ge=4096, le=1 << 50)]

PacketBytes: TypeAlias = Annotated[int, Meta(ge=1, le=268_435_455)]
"""MQTT writes the length of a packet in four bytes of seven bits."""
Port: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
ReceiveMaximum: TypeAlias = Annotated[int, Meta(ge=1, le=65_535)]
"""MQTT 5, 3.1.2.11.3: 0 is a protocol error."""
SessionSeconds: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]
"""MQTT 5, 3.1.2.11.2: four bytes."""

Text: TypeAlias = Annotated[
    str, Meta(max_length=16_383, pattern=r"^[^\x00]*\Z", description="a text of up to 16383 characters without NUL")
]
"""MQTT writes the length of a text in two bytes, and a character takes up to four."""
Name: TypeAlias = Annotated[
    str, Meta(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*\Z", description="a name on one line, up to 256 characters")
]
PathText: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]*\Z", description="the path of a file or folder")
]
OptionalPath: TypeAlias = Annotated[
    str, Meta(max_length=4096, pattern=r"^[^\x00]*\Z", description="the path of a file or folder, or nothing")
]
Host: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00-\x20/]+\Z", description="a host's name or address")
]
ClientId: TypeAlias = Annotated[str, Meta(max_length=128, pattern=r"^[^\x00-\x1f]*\Z", description="a client id")]
