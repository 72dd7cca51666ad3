"""Where tunings are kept: one JSON file per model and its requirements, whole or not there.

A file that cannot be read as a tuning is set aside beside its place, for whoever wants to look, and counts as none.
The newest files stay, whatever they are: models come and go for years.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import msgspec

from agent.files import make_folder, write_atomically
from agent.inference.tuning.values import Machine, Requirements, Tuning

__all__ = ["TuningStore", "stale"]

log = logging.getLogger(__name__)

FOLDER = "tuning"
_ASIDE = ".unreadable"
_MOST = 256
"""Files of a few kilobytes."""


def stale(tuning: Tuning, machine: Machine) -> str:
    """What has changed since it was measured, as a sentence; empty when it still holds."""
    then = msgspec.structs.asdict(tuning.machine)
    now = msgspec.structs.asdict(machine)
    for fact in ("cpu", "architecture", "cpus", "python"):
        if then[fact] != now[fact]:
            return f"{fact} was {then[fact]} and is {now[fact]}"
    for name in sorted(then["packages"].keys() | now["packages"].keys()):
        before, after = (facts["packages"].get(name, "not there") for facts in (then, now))
        if before != after:
            return f"{name} was {before} and is {after}"
    return ""


class TuningStore:
    """The tunings in a data folder; every method blocks while it reads or writes."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER
        self._unkept: dict[Path, Tuning] = {}

    def path(self, digest: str, requirements: Requirements) -> Path:
        """Where the tuning of a model is kept."""
        settled = hashlib.sha256(msgspec.json.encode(requirements, order="sorted")).hexdigest()[:8]
        return self.folder / f"{digest.removeprefix('sha256:')}-{settled}.json"

    def find(self, digest: str, requirements: Requirements) -> Tuning | None:
        """What was kept of a model; None where there is nothing that can be read."""
        path = self.path(digest, requirements)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Tuning)
        except FileNotFoundError:
            log.debug("nothing is kept in %s", path)
        except msgspec.MsgspecError as error:
            self._quarantine(path, error)
        except OSError as error:
            log.warning("the tuning in %s cannot be read: %s", path, error.strerror)
        return self._unkept.get(path)

    def keep(self, tuning: Tuning) -> Path | None:
        """Keep a tuning in place of the last one; None where the disk refuses, and then until this program ends."""
        path = self.path(tuning.digest, tuning.requirements)
        try:
            make_folder(self.folder)
            write_atomically(path, msgspec.json.format(msgspec.json.encode(tuning), indent=2) + b"\n")
            self._thin()
        except OSError as error:
            log.warning("the tuning of %s cannot be kept in %s: %s", tuning.model, path, error.strerror)
            self._unkept[path] = tuning
            return None
        return path

    def forget(self, digest: str) -> int:
        """Remove all that was kept of a model; how much it was.  Raises ``OSError``."""
        kept = sorted(self.folder.glob(f"{digest.removeprefix('sha256:')}-*.json"))
        for path in kept:
            path.unlink(missing_ok=True)
        return len(kept)

    def _thin(self) -> None:
        by_age = sorted((path.stat().st_mtime_ns, path) for path in self.folder.iterdir() if path.is_file())
        for _, path in by_age[:-_MOST]:
            path.unlink(missing_ok=True)

    def _quarantine(self, path: Path, error: Exception) -> None:
        aside = path.with_name(path.name + _ASIDE)
        try:
            path.replace(aside)
        except OSError as problem:
            log.warning("the tuning in %s is unreadable (%s) and in the way: %s", path, error, problem.strerror)
        else:
            log.warning("the tuning in %s is unreadable (%s); it is set aside as %s", path, error, aside.name)
