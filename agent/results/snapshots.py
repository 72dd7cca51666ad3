"""Annotated pictures: when one is wanted, and a bounded folder of them.

Whether a frame is drawn on is decided before it is sent to the worker, so that nobody draws in vain.  File
names begin with the result's id: they sort by time, and lead from a picture to its result.  Pictures are
no ledger: they are replaced whole, yet not forced to the disk.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from pathlib import Path

from agent.config.streams import SnapshotOptions
from agent.files import make_file, make_folder
from agent.results.disk import DiskLosses
from agent.results.recent import Recent
from agent.results.result import Result

__all__ = ["SnapshotFolder", "SnapshotPace"]

_OURS = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}-[\w.-]*\.(jpg|part)", re.ASCII)
_STRANGE = re.compile(r"[^\w.-]", re.ASCII)
_MAX_NAME = 100


class SnapshotPace:
    """Whether a camera's next frame is drawn on.

    >>> pace = SnapshotPace(SnapshotOptions(max_rate_hz=0.5))
    >>> [pace.wanted("door", now) for now in (0.0, 1.0, 2.0)]
    [True, False, True]
    """

    def __init__(self, options: SnapshotOptions) -> None:
        self._interval = 1 / options.max_rate_hz
        self._asked: Recent[float] = Recent()

    def wanted(self, camera: str, now: float) -> bool:
        """Whether it is time; True uses the turn up.  ``now`` is monotonic, in seconds."""
        last = self._asked.get(camera)
        if last is not None and now - last < self._interval:
            return False
        self._asked.put(camera, now)
        return True

    def give_back(self, camera: str) -> None:
        """The camera's last turn came to nothing: it is its next frame's."""
        self._asked.forget(camera)


class SnapshotFolder:
    """Keeps the newest ``keep`` pictures in a folder; files of other names are never touched."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self._names: deque[str] | None = None
        self._losses = DiskLosses(f"the snapshots of {folder}")
        self.lost: Counter[str] = self._losses.counts

    def write(self, jpeg: bytes, result: Result) -> Path | None:
        """Keep one picture and remove what is too much; None where the disk did not take it."""
        with self._losses:
            make_folder(self._folder)
            return self._keep_newest(jpeg, f"{result.id}-{_STRANGE.sub('_', result.frame.camera)[:_MAX_NAME]}")
        return None

    def _keep_newest(self, jpeg: bytes, stem: str) -> Path:
        if self._names is None:
            self._names = self._found()
        temporary, path = self._folder / f"{stem}.part", self._folder / f"{stem}.jpg"
        try:
            make_file(temporary)
            temporary.write_bytes(jpeg)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._names.append(path.name)
        while len(self._names) > self._keep:
            (self._folder / self._names[0]).unlink(missing_ok=True)
            self._names.popleft()
        return path

    def _found(self) -> deque[str]:
        """Our pictures of earlier runs, oldest first; what an interrupted write left behind is removed."""
        ours = [path for path in self._folder.iterdir() if _OURS.fullmatch(path.name)]
        for path in ours:
            if path.suffix == ".part":
                path.unlink()
        return deque(sorted(path.name for path in ours if path.suffix == ".jpg"))
