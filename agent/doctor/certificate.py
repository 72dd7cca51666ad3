"""From when to when a certificate is valid, read from its DER: the standard library tells it of authorities only."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import NamedTuple

__all__ = ["Validity", "validity"]

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION = 0xA0
_LONG = 0x80
_FORMATS = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""Of the two kinds of time: with two digits of the year (until 2049) and with four."""


class Validity(NamedTuple):
    """Both ends, in UTC."""

    begins: datetime
    ends: datetime


def validity(pem: str) -> Validity:
    """Of the first certificate in the text; raises ``ValueError`` where there is none."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no certificate in it")
    data = ssl.PEM_cert_to_DER_cert(found.group())
    try:
        return Validity(*_times(data))
    except (IndexError, KeyError) as error:
        raise ValueError("the certificate is cut short") from error


def _times(data: bytes) -> list[datetime]:
    """Certificate → signed part → past version, serial number, algorithm and issuer → validity → two times."""
    _, at, _ = _element(data, 0)
    _, at, _ = _element(data, at)
    if data[at] == _VERSION:  # left out of certificates of version 1
        at = _element(data, at)[2]
    for _ in range(3):
        at = _element(data, at)[2]
    at = _element(data, at)[1]
    times = []
    for _ in range(2):
        tag, start, at = _element(data, at)
        times.append(datetime.strptime(data[start:at].decode("ascii"), _FORMATS[tag]).replace(tzinfo=UTC))
    return times


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """An element's tag, where its content starts and where it ends."""
    length, start = data[at + 1], at + 2
    if length & _LONG:
        start += length & ~_LONG
        length = int.from_bytes(data[at + 2 : start], "big")
    return data[at], start, start + length
