"""Which pictures a command's arguments name, and how each is read.

A file is recognised as a payload on a topic is: a picture, or text that holds one.  What cannot be read is
told when it is read, so that one bad argument does not keep the others from their answer.
"""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.config.streams import FrameLimits
from agent.errors import FrameError
from agent.frames.frame import Picture
from agent.frames.recognise import recognise

__all__ = ["STDIN", "SUFFIXES", "Source", "expand"]

STDIN = "-"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".npy")
"""What is taken from a folder; a file that is named itself may be called anything."""


@dataclass(frozen=True, slots=True)
class Source:
    """One picture by the name under which its answer is told: a path, or ``-`` for standard input."""

    name: str

    @property
    def stem(self) -> str:
        """What a file made from this picture is called, without a suffix."""
        return "stdin" if self.name == STDIN else Path(self.name).stem

    def read(self, limits: FrameLimits) -> Picture:
        """The picture; raises ``FrameError`` for what cannot be read or is none."""
        # One byte past the limit is enough to be refused for.
        size = limits.max_bytes + 1
        if self.name == STDIN:
            return recognise(sys.stdin.buffer.read(size), None, limits)
        path = Path(self.name)
        try:
            with path.open("rb") as file:
                return recognise(file.read(size), None, limits)
        except IsADirectoryError:
            hint = f"a folder is searched for {', '.join(SUFFIXES)}; name other files themselves"
            raise FrameError("there is no picture in the folder", hint=hint, code="folder-empty") from None
        except OSError as error:
            hint = "check the path; quote a pattern that the shell must not expand"
            raise FrameError(f"the file cannot be read: {error.strerror}", hint=hint, code="file-unreadable") from error


def expand(arguments: Sequence[str]) -> list[Source]:
    """The pictures in the order of the arguments; folders and patterns in the order of names."""
    return [Source(name) for argument in arguments for name in _names(argument)]


def _names(argument: str) -> Iterator[str]:
    path = Path(argument)
    if argument == STDIN or path.is_file():
        found = []
    elif path.is_dir():
        found = sorted(str(entry) for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
    else:
        found = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 an absolute pattern is one too
    yield from found or [argument]
