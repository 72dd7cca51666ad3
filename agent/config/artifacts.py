"""What the fetching of artifacts can be told: limits, patience, and how stores reach the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

__all__ = ["MAX_ARTIFACT_BYTES", "RESERVE_BYTES", "DownloadOptions", "Limits", "Patience", "StoreOptions"]

MAX_ARTIFACT_BYTES = 4 * 1024**3
RESERVE_BYTES = 20_000_000
"""What stays usable, as Greengrass has it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one artifact may cost."""

    max_bytes: int = MAX_ARTIFACT_BYTES
    reserve_bytes: int = RESERVE_BYTES
    """What stays free on the disk."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long what cannot be reached is tried: delays in [0, min(cap, base · 2ⁿ)], full jitter."""

    base_s: float = 1.0
    cap_s: float = 60.0
    give_up_after_s: float = 3600.0
    """Counted from the last byte that came."""

    def ceiling_s(self, failures: int) -> float:
        """The longest delay after so many failures in a row."""
        return min(self.cap_s, self.base_s * 2.0 ** min(failures, 60))


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How stores reach the network."""

    ca_file: str | None = None
    """PEM of the authorities to trust; without it the system's."""
    cert_file: str | None = None
    """PEM of the agent's certificate, for servers that ask who it is."""
    key_file: str | None = None
    proxy: str | None = None
    """``http://user:password@host:port``; without it ``https_proxy``, ``http_proxy`` and ``no_proxy`` of the
    environment hold."""
    plain_http_hosts: frozenset[str] = frozenset()
    """Hosts besides the loopback that ``http:`` may be spoken with."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 30.0
    """For each read, not for the whole."""


class DownloadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How artifacts are fetched over HTTPS."""

    ca_file: str | None = None
    """PEM of the authorities to trust; without it the system's."""
    cert_file: str | None = None
    """PEM of the agent's certificate, for servers that ask who it is."""
    key_file: str | None = None
    proxy: str | None = None
    """``http://user:password@host:port``; without it the environment's proxy variables hold."""
    plain_http_hosts: tuple[str, ...] = ()
    """Hosts besides this machine that ``http:`` may be spoken with."""
    connect_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    read_timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0
