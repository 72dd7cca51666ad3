"""The other doors of a broker on this machine: where else its process listens.

A broker may ask for a password at the agent's door and take anybody at the next one, which cameras use.  Linux tells
where a process listens: of every process to root, of one's own otherwise; what listens under the broker's user is then
taken for the broker's, unless that user is root or the agent's own and has other programs too.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["other_doors"]

_TABLES: Final = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENING: Final = "0A"
_MOST: Final = 8


@dataclass(frozen=True, slots=True)
class _Listener:
    host: str
    port: int
    user: int
    inode: str


def other_doors(port: int) -> tuple[tuple[str, int], ...]:
    """Hosts and ports at which the program that listens on ``port`` can be reached besides; at most 8."""
    listeners = [one for table in _TABLES for one in _read(Path(table))]
    known = {one.inode for one in listeners if one.port == port}
    sockets = _sockets_of_its_process(known)
    users = {one.user for one in listeners if one.port == port} - {0, os.geteuid()}
    doors = {
        (one.host, one.port): None
        for one in listeners
        if one.port != port and (one.inode in sockets if sockets else one.user in users)
    }
    return tuple(doors)[:_MOST]


def _read(table: Path) -> Iterator[_Listener]:
    try:
        rows = table.read_text().splitlines()[1:]
    except OSError:  # no Linux, or no such family
        return
    for row in rows:
        fields = row.split()
        if fields[3] == _LISTENING:
            address, _, port = fields[1].partition(":")
            yield _Listener(_reachable(address), int(port, 16), int(fields[7]), fields[9])


def _reachable(address: str) -> str:
    """An address of the kernel's table, in words of four bytes in the machine's order; any address is this machine's.

    >>> _reachable("0100007F") if sys.byteorder == "little" else "127.0.0.1"
    '127.0.0.1'
    >>> _reachable("0" * 32)
    '::1'
    """
    words = (bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8))
    found = ipaddress.ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))
    if found.is_unspecified:
        return "127.0.0.1" if found.version == 4 else "::1"  # noqa: PLR2004 IPv4
    return str(found)


def _sockets_of_its_process(inodes: set[str]) -> set[str]:
    """The sockets of the process that has one of these; empty where no process can be looked at that does."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            sockets = _sockets(process / "fd")
            if sockets & inodes:
                return sockets
    return set()


def _sockets(folder: Path) -> set[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 names are enough, and there are many
    except OSError:  # another user's, or gone meanwhile
        return set()
    links = (_link(f"{folder}/{name}") for name in names)
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 what it leads to is no path
    except OSError:
        return ""
