"""What an earlier process subscribed to in a session that outlives it.

A broker keeps the subscriptions of a kept session and never says which they are, so a filter that a new configuration
does not want any more would bring messages for ever.  They stand in a small file.  Nothing depends on it: what it
wrongly names is left in vain, and what it misses goes on being held.
"""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from agent.files import write_atomically

__all__ = ["KeptFilters"]

log = logging.getLogger("agent.mqtt.client")


class _Content(msgspec.Struct, frozen=True):
    address: str
    filters: tuple[str, ...] = ()


class KeptFilters:
    """The filters of the session at the broker ``address``, in the file ``path``."""

    def __init__(self, path: Path, address: str) -> None:
        self._path = path
        self._address = address
        self._written: frozenset[str] | None = None

    def read(self) -> frozenset[str]:
        """The filters; none where there is no file, where it cannot be read, or where it is of another broker."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_Content)
        except FileNotFoundError:
            return frozenset()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning(
                "%s cannot be read; filters that are not wanted any more stay at the broker: %s", self._path, error
            )
            return frozenset()
        return frozenset(content.filters) if content.address == self._address else frozenset()

    def write(self, filters: AbstractSet[str]) -> None:
        """Have the file hold ``filters``; one that cannot be written is told of once."""
        if filters == self._written:
            return
        self._written = frozenset(filters)
        content = msgspec.json.encode(_Content(self._address, tuple(sorted(filters))))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, content, 0o600)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
