"""The process of a camera: a child whose last words are kept and logged without the camera's credentials."""

from __future__ import annotations

import re
from collections.abc import Callable

from agent.inference.child import Child

__all__ = ["CameraChild"]

_LINE_BYTES = 8192
_DECORATION = re.compile(r"^\[.*?\]\s*")


class CameraChild(Child):
    """As a worker's process; ``scrub`` is applied to each line before it is logged or kept."""

    def __init__(self) -> None:
        super().__init__()
        self.scrub: Callable[[str], str] = str
        self._rest = b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep and log whole lines: a secret must not slip through in two halves."""
        lines, newline, rest = (self._rest + data).rpartition(b"\n")
        if len(rest) > _LINE_BYTES:
            lines, newline, rest = lines + newline + rest, b"\n", b""
        self._rest = rest
        if newline:
            super().pipe_data_received(fd, self.scrub(lines.decode(errors="replace")).encode() + b"\n")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """What was not ended by a newline is a last line."""
        if self._rest:
            self.pipe_data_received(fd, b"\n")
        super().pipe_connection_lost(fd, exc)

    @property
    def complaint(self) -> str:
        """The last line that a library wrote, without its decoration."""
        lines = [_DECORATION.sub("", line) for line in self.last_words]
        return next((line for line in reversed(lines) if line), "")
