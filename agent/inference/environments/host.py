"""What runtimes are chosen by: interpreters and the machine, as values."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NEWEST", "OLDEST", "Host", "Interpreter"]

OLDEST, NEWEST = (3, 9), (3, 14)
"""The Pythons that a worker runs on."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython that answered."""

    path: str
    """The interpreter itself: no shim, no link, no virtual environment's."""
    version: tuple[int, int, int]
    machine: str
    """Of the interpreter, which may be a 32-bit one on a 64-bit kernel: ``x86_64``, ``aarch64``, ``armv7l`` …"""
    libc: str = "glibc"
    """``glibc``, ``musl`` or empty."""
    libc_version: tuple[int, int] = (2, 17)
    free_threaded: bool = False
    venv: bool = True
    """Whether it can make virtual environments."""
    ensurepip: bool = True
    """Whether it brings a pip of its own."""
    own: bool = False
    """Whether the agent itself runs on it."""

    @property
    def release(self) -> str:
        """``3.11.7``, with a ``t`` for the free-threaded build."""
        return ".".join(map(str, self.version)) + ("t" if self.free_threaded else "")

    def __str__(self) -> str:
        return f"Python {self.release} ({self.path})"


@dataclass(frozen=True, slots=True)
class Host:
    """A machine."""

    interpreters: tuple[Interpreter, ...]
    """Those that a worker can run on, the agent's own first, then the newest first."""
    flags: frozenset[str] = frozenset()
    """The processor's, as the kernel lists them: ``avx``, ``asimd`` …"""
    free_bytes: int = 1 << 40
    """Where the environments are to lie."""
    passed_over: tuple[str, ...] = ()
    """Interpreters that cannot be used, each with the reason."""
