"""Certificates and keys, file by file: there, readable, in time, and made for each other.

From when to when a certificate is valid is read from its DER: the standard library has it for authorities only.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from agent.config.load import Config
from agent.config.transports import TlsOptions
from agent.doctor.files import secret
from agent.doctor.finding import Finding

__all__ = ["Validity", "authorities", "certificate", "findings", "pair", "validity"]

_SOON = timedelta(days=30)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION = 0xA0
_LONG = 0x80
_FORMATS = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
"""Of the two kinds of time: with two digits of the year (until 2049) and with four."""


def findings(config: Config) -> list[Finding]:
    """Of each broker with TLS: the authorities, the agent's certificate, its key, and whether the two fit."""
    now = datetime.now(UTC)
    return [
        finding
        for name, options in config.transports.items()
        if (tls := options.tls_used) is not None
        for finding in _files(name, tls, now)
    ]


def authorities(check: str, path: Path) -> Finding:
    """Whether the file holds certificates to trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        return Finding.fail(check, f"{path} holds no certificate", "copy the authority's certificate again, as PEM")
    except OSError as error:
        return _unreadable(check, path, error)
    count = context.cert_store_stats()["x509"]
    return Finding.ok(check, f"{path}, {count} {'certificate' if count == 1 else 'certificates'}")


def certificate(check: str, path: Path, now: datetime) -> Finding:
    """Whether the certificate is valid ``now``."""
    try:
        begins, ends = validity(path.read_text())
    except OSError as error:
        return _unreadable(check, path, error)
    except ValueError as error:
        return Finding.fail(check, f"{path}: {error}", "copy the certificate again, as PEM")
    if now < begins:
        return Finding.fail(
            check,
            f"{path} is valid from {begins:%Y-%m-%d %H:%M} UTC",
            f"set the clock: it says {now:%Y-%m-%d %H:%M} UTC",
        )
    if now > ends:
        return Finding.fail(
            check, f"{path} expired on {ends:%Y-%m-%d}", f"renew it, or set the clock: it says {now:%Y-%m-%d}"
        )
    if now > ends - _SOON:
        return Finding.warn(check, f"{path} expires on {ends:%Y-%m-%d}", "renew it in time")
    return Finding.ok(check, f"{path}, valid until {ends:%Y-%m-%d}")


def pair(check: str, cert: Path, key: Path | None) -> Finding:
    """Whether the key belongs to the certificate."""
    try:
        # The empty password keeps OpenSSL from asking the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password="")
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            return Finding.fail(check, "the key does not belong to the certificate", f"copy both again: {cert}, {key}")
        fix = "both have to be PEM, the key without a password"
        return Finding.fail(check, f"certificate and key cannot be used: {reason or error.strerror or error}", fix)
    return Finding.ok(check, "the key fits the certificate")


def _files(name: str, options: TlsOptions, now: datetime) -> Iterator[Finding]:
    if options.insecure:
        fix = f"set transports.{name}.tls.ca_file and take insecure away"
        yield Finding.warn(f"tls {name}", "any certificate of the broker is taken", fix)
    if options.ca_file:
        yield authorities(f"ca_file {name}", Path(options.ca_file))
    if options.cert_file:
        yield certificate(f"cert_file {name}", Path(options.cert_file), now)
    if options.key_file:
        yield secret(f"key_file {name}", Path(options.key_file))
    if options.cert_file and all(Path(file).is_file() for file in (options.cert_file, options.key_file) if file):
        yield pair(f"key pair {name}", Path(options.cert_file), Path(options.key_file) if options.key_file else None)


def _unreadable(check: str, path: Path, error: OSError) -> Finding:
    return Finding.fail(check, f"{path}: {error.strerror}", "check the path and who may read it")


# -- a certificate's validity, from its DER ---------------------------------------------------------------------


class Validity(NamedTuple):
    """From when to when a certificate is valid, in UTC."""

    begins: datetime
    ends: datetime


def validity(pem: str) -> Validity:
    """The validity of the first certificate in the text; raises ``ValueError`` where there is none."""
    block = _PEM.search(pem)
    if block is None:
        raise ValueError("there is no certificate in it")
    data = ssl.PEM_cert_to_DER_cert(block.group())
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
