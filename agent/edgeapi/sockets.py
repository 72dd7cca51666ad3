"""Where a server listens: a Unix socket that nobody else has, with the mode that its clients need, or a TCP port.

gRPC replaces whatever socket is at a path, that of a living server too, and removes the file when it leaves.  So the
path is looked at before: one that somebody answers at is refused, one that a dead server left is taken.
"""

from __future__ import annotations

import grp
import os
import socket
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from agent.config.secrets import TlsFiles
from agent.errors import ConfigError, UnreachableError

__all__ = ["SocketInUseError", "TcpPlace", "UnixPlace", "group_number", "place"]

_LONGEST = 107
"""Bytes of a path in ``sockaddr_un``, less its end."""
_SCHEME = "unix:"


def group_number(name: str) -> int | None:
    """The number of a group, None for an empty name; raises ``ConfigError`` for a group that there is not."""
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except KeyError as error:
        raise _foreign(name) from error


def _foreign(group: str) -> ConfigError:
    hint = "name a group of this machine that the agent's user belongs to"
    return ConfigError(f"the socket cannot be given to the group {group}", code="socket-wrong", hint=hint)


class SocketInUseError(UnreachableError):
    """Another server answers at the path."""

    default_code = "socket-in-use"


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """A Unix socket; ``group`` may connect too, where one is named, and everybody with ``everybody``."""

    path: Path
    group: str = ""
    everybody: bool = False
    replace: bool = True
    """Whether what a dead server left is taken; otherwise any file there is refused."""

    @classmethod
    def parse(cls, text: str, base: Path, **how: object) -> UnixPlace:
        """The socket that clients call ``unix:///path``, ``unix:path`` or by its path.

        >>> str(UnixPlace.parse("unix:///tmp/a.sock", Path("/")).path)
        '/tmp/a.sock'
        """
        path = text.removeprefix(_SCHEME)
        path = path.removeprefix("//")
        return cls(base / path, **how)  # type: ignore[arg-type]

    @property
    def address(self) -> str:
        """As gRPC wants it."""
        return f"{_SCHEME}{self.path}"

    def claim(self) -> None:
        """Make room at the path.

        Raises ``ConfigError`` for a path that no socket can be at, ``SocketInUseError`` where another server is.
        """
        if len(os.fsencode(self.path)) > _LONGEST:
            hint = f"a socket's path has at most {_LONGEST} bytes"
            raise ConfigError(f"the path {self.path} is too long for a socket", code="socket-wrong", hint=hint)
        if not self.path.parent.is_dir():
            raise ConfigError(f"there is no folder {self.path.parent} for the socket", code="socket-wrong")
        try:
            mode = self.path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise ConfigError(
                f"{self.path} is no socket", code="socket-wrong", hint="name another path, or remove that file"
            )
        if self._answers():
            hint = "end the server that has it, or name another path"
            raise SocketInUseError(f"another server answers at {self.path}", hint=hint)
        if not self.replace:
            raise ConfigError(f"{self.path} exists already", code="socket-wrong", hint="replace it with -f")
        self.path.unlink()

    def open_up(self) -> None:
        """Let those connect who may; raises ``ConfigError`` for a group that there is not."""
        group = group_number(self.group)
        if group is not None:
            try:
                os.chown(self.path, -1, group)
            except PermissionError as error:
                raise _foreign(self.group) from error
        self.path.chmod(0o666 if self.everybody else 0o660 if self.group else 0o600)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.path))
            except ConnectionRefusedError:
                return False
            except OSError:
                return True  # it may be somebody's: left alone
            return True


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """A TCP port; with ``tls`` for clients of TLS alone, with its ``ca_file`` for those whom that authority knows."""

    host: str
    port: int
    tls: TlsFiles | None = None

    @property
    def address(self) -> str:
        """As gRPC wants it, and people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def claim(self) -> None:
        """Nothing: the kernel refuses a port that another server has."""

    def open_up(self) -> None:
        """Nothing: who may is asked of each client."""

    def context(self) -> ssl.SSLContext | None:
        """How TLS is spoken, None where it is not; raises ``ConfigError`` for files that cannot be used."""
        if self.tls is None:
            return None
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            made.load_cert_chain(self.tls.cert_file or "", self.tls.key_file)
            if self.tls.ca_file:
                made.load_verify_locations(self.tls.ca_file)
                made.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            hint = "check cert_file, key_file and ca_file"
            raise ConfigError(f"TLS cannot be spoken: {error}", code="tls-wrong", hint=hint) from error
        return made


def place(text: str, base: Path, tls: TlsFiles | None = None) -> TcpPlace | UnixPlace:
    """Where ``host:port``, ``[::1]:port`` or ``unix:path`` is; raises ``ConfigError`` for anything else.

    >>> place("[::1]:8000", Path("/")).address
    '[::1]:8000'
    """
    if text.startswith(_SCHEME):
        return UnixPlace.parse(text, base)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"{text!r} is no address", code="address-wrong", hint="it is host:port, or unix:path")
    return TcpPlace(host, int(port), tls)
