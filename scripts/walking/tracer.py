"""Windows in which the processes of an agent record what they run; the recording half is ``hook/sitecustomize.py``."""

from __future__ import annotations

import contextlib
import json
import mmap
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from scripts.walking.hook.sitecustomize import VALUES

HOOK = Path(__file__).parent / "hook"
QUIET_S = 0.3
"""The agent is at rest when for so long nothing ran that had not run in the window before."""


class Line(NamedTuple):
    """A function that ran or a key whose value was there (``what``), in which file, when, and in which window."""

    window: int
    ns: int
    file: str
    what: str


class Tracer:
    """Records in ``folder`` what processes started with ``environment`` run of the checkout at ``root``.

    ``values`` are those that are followed, each of its key.
    """

    def __init__(self, folder: Path, root: Path, values: Mapping[str, float]) -> None:
        folder.mkdir()
        self._folder = folder
        (folder / "about.json").write_text(json.dumps({"agent": f"{root / 'agent'}/", "values": dict(values)}))
        (folder / "window").write_bytes(b"\0")
        with (folder / "window").open("r+b") as file:
            self._window = mmap.mmap(file.fileno(), 1)
        self._opened = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process must be given to record."""
        return {"PYTHONPATH": str(HOOK), "WALKS": str(self._folder)}

    @contextlib.contextmanager
    def window(self) -> Iterator[int]:
        """Record until the agent is at rest after the body; the number is for ``files``."""
        self._opened += 1
        self._window[0] = self._opened
        yield self._opened
        self.close()

    def follow(self) -> None:
        """Follow the values from now on."""
        self._window[0] = VALUES

    def close(self) -> None:
        """Wait until the agent is at rest, and record no more."""
        before = -1
        while (now := sum(path.stat().st_size for path in self._records())) != before:
            before = now
            time.sleep(QUIET_S)
        self._window[0] = 0

    def files(self, window: int) -> list[str]:
        """What ran in a window, in the order of first passage."""
        return first_passage(line for line in self._lines() if line.window == window)

    def holders(self, key: str) -> list[str]:
        """Which files had a key's value, in the order of first passage."""
        return first_passage(line for line in self._lines() if (line.window, line.what) == (VALUES, key))

    def _lines(self) -> Iterator[Line]:
        for path in self._records():
            for text in path.read_text().splitlines():
                yield Line(*json.loads(text))

    def _records(self) -> Iterator[Path]:
        return self._folder.glob("*.jsonl")


def first_passage(lines: Iterable[Line]) -> list[str]:
    """Files, each once, by the time of their first line, whichever process it is from."""
    return list(dict.fromkeys(line.file for line in sorted(lines, key=lambda line: line.ns)))


def in_all(passages: Iterable[list[str]]) -> list[str]:
    """Files that are in each of the lists, in the order of the last: what ran by chance is in some of them only."""
    *others, last = passages
    return [file for file in last if all(file in other for other in others)]
