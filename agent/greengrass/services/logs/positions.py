"""How far each log file is uploaded: one small file on disk, written anew after each batch that arrived."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from agent.disk import set_aside
from agent.files import DamagedFileError, make_folder, read_checked, write_checked

__all__ = ["Positions"]

log = logging.getLogger(__name__)

_MOST: Final = 10_000
"""Files that are known at a time; those of a source that is no longer configured go first."""


class _Place(msgspec.Struct, frozen=True, array_like=True):
    source: str
    position: int
    size: int
    """Of the file when it was last seen."""


class Positions:
    """What is uploaded, by a file's identity."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, _Place] = {}

    def load(self) -> None:
        """Take up what an earlier process wrote; a damaged file is set aside.  Raises ``OSError``."""
        try:
            self._places = msgspec.json.decode(read_checked(self._path), type=dict[str, _Place])
        except FileNotFoundError:
            self._places = {}
        except (DamagedFileError, msgspec.MsgspecError):
            kept = set_aside(self._path)
            log.warning("how far logs are uploaded is not known any more (%s): they are uploaded again", kept)
            self._places = {}

    def of(self, identity: str) -> int:
        """The place in a file up to which it is uploaded."""
        place = self._places.get(identity)
        return place.position if place else 0

    def saw(self, source: str, identity: str, size: int) -> None:
        """A file is there, and so large; one that is shorter than its position began anew."""
        position = self.of(identity)
        self._places[identity] = _Place(source, position if position <= size else 0, size)

    def reached(self, source: str, identity: str, position: int) -> None:
        """A file is uploaded up to there.  Raises ``OSError``: then it is known until the process ends."""
        size = self._places[identity].size if identity in self._places else position
        self._places[identity] = _Place(source, position, max(size, position))
        self._save()

    def keep(self, source: str, identities: Iterable[str]) -> int:
        """Forget a source's other files; gives how many of their bytes had not been uploaded.  Raises ``OSError``."""
        there = set(identities)
        gone = {key: place for key, place in self._places.items() if place.source == source and key not in there}
        if not gone:
            return 0
        self._places = {key: place for key, place in self._places.items() if key not in gone}
        self._save()
        return sum(place.size - place.position for place in gone.values())

    def _save(self) -> None:
        while len(self._places) > _MOST:
            del self._places[next(iter(self._places))]
        make_folder(self._path.parent, ours=True)
        write_checked(self._path, msgspec.json.encode(self._places))
