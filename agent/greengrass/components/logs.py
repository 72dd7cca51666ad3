"""A component's log: what it prints, line by line, bounded in every direction.

One writer per component.  A file that would grow past ``file_bytes`` moves on to ``<name>.log.1`` and so on; the
oldest goes when ``total_bytes`` are reached.  A line longer than ``LINE_BYTES`` is broken into pieces.  A component
that makes its log grow faster than ``RATE`` bytes a second is slowed down by its own pipe, so that it can neither fill
the disk nor take the agent's time.  Lines that the disk does not take are counted, and the count is written when it
does again.
"""

from __future__ import annotations

import asyncio
import glob
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from agent.files import make_file, make_folder

__all__ = ["FILE_BYTES", "TOTAL_BYTES", "ComponentLog", "pump"]

log = logging.getLogger(__name__)

FILE_BYTES = 1024 * 1024
TOTAL_BYTES = 10 * FILE_BYTES
LINE_BYTES = 8192
RATE = 1024 * 1024
_READ_BYTES = 8192
_LINE_COST = 100
"""What time, place and level add to a line."""
_SLICE = 32 * 1024


class ComponentLog:
    """The log file of one component and the older files beside it."""

    def __init__(
        self, folder: Path, name: str, *, file_bytes: int = FILE_BYTES, total_bytes: int = TOTAL_BYTES
    ) -> None:
        self._path = folder / f"{name}.log"
        self._name = name
        self.bound(file_bytes, total_bytes)
        self._descriptor: int | None = None
        self._size = 0
        self.lost = 0

    def bound(self, file_bytes: int, total_bytes: int) -> None:
        """Be no larger from the next file on; ``total_bytes`` hold for all files together."""
        self._file_bytes = file_bytes
        self._older = max(1, total_bytes // file_bytes) - 1

    def write(self, level: str, event: str, message: str, context: Mapping[str, str]) -> None:
        """Write one line; what cannot be written is counted in ``lost``."""
        lines = [self._line("WARN", "log", f"{self.lost} lines were lost", {})] if self.lost else []
        lines.append(self._line(level, event, message, context))
        try:
            self._append(b"".join(lines))
        except OSError as error:
            if not self.lost:
                log.warning("component %s: its log cannot be written: %s", self._name, error)
            self.lost += 1
        else:
            self.lost = 0

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, data: bytes) -> None:
        if self._descriptor is None:
            self._open()
        if self._size and self._size + len(data) > self._file_bytes:
            self._rotate()
        assert self._descriptor is not None  # noqa: S101 opened above
        self._size += os.write(self._descriptor, data)

    def _open(self) -> None:
        make_folder(self._path.parent)
        make_file(self._path)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        self.close()
        self._forget_older()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n + 1}") for n in range(self._older))]
        names[-1].unlink(missing_ok=True)
        for newer, older in zip(reversed(names[:-1]), reversed(names[1:]), strict=True):
            if newer.exists():
                newer.replace(older)
        self._open()

    def _forget_older(self) -> None:
        """Remove what earlier bounds allowed."""
        for path in self._path.parent.glob(f"{glob.escape(self._path.name)}.*"):
            number = path.suffix.removeprefix(".")
            if number.isdecimal() and int(number) > self._older:
                path.unlink(missing_ok=True)

    def _line(self, level: str, event: str, message: str, context: Mapping[str, str]) -> bytes:
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        facts = ", ".join(f"{key}={value}" for key, value in {"serviceName": self._name, **context}.items())
        return f"{moment} [{level}] {self._name}: {event}. {message} {{{facts}}}\n".encode(errors="replace")


async def pump(reader: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    """Hand every line of a pipe on until its last writer has closed it, at a pace the agent can bear."""
    spent = 0
    async for line in _lines(reader):
        take(line.decode(errors="replace"))
        spent += len(line) + _LINE_COST
        if spent >= _SLICE:
            await asyncio.sleep(spent / RATE)
            spent = 0


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    rest = b""
    while data := await reader.read(_READ_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            for piece in _pieces(line.removesuffix(b"\r")):
                yield piece
        *pieces, rest = _pieces(rest)
        for piece in pieces:
            yield piece
    if rest:
        yield rest


def _pieces(line: bytes) -> list[bytes]:
    """The line in pieces that are short enough, the last of which may be empty only if the line is."""
    return [line[start : start + LINE_BYTES] for start in range(0, len(line), LINE_BYTES)] or [b""]
