"""Annotated pictures in a folder: each its own file, and never one of the pictures themselves."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import msgspec

from agent.cli.answering import Answered
from agent.errors import ConfigError
from agent.files import write_atomically
from agent.inference.values import Answer, Snapshot

__all__ = ["Annotations"]


class Annotations:
    """Writes ``<picture>.annotated.jpg`` into ``folder``, which is made if it is not there."""

    snapshot = Snapshot(quality=90)
    """What to ask of the model beside its answer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[Path] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def keep(self, answered: Answered) -> Answered:
        """The same with its annotated picture on disk instead of in memory, or what kept it from there."""
        if not isinstance(answered.outcome, Answer):
            return answered
        path = self._free(answered.source.stem)
        self._taken.add(path)
        try:
            write_atomically(path, answered.outcome.snapshot)
        except OSError as error:
            return replace(answered, outcome=_unwritable(path, error))
        return replace(answered, outcome=msgspec.structs.replace(answered.outcome, snapshot=b""), annotated=path)

    def _free(self, stem: str) -> Path:
        """A path that no other picture of this run took; what an earlier run left is replaced."""
        names = (f"{stem}{'' if number == 1 else f'-{number}'}.annotated.jpg" for number in count(1))
        return next(path for path in (self._folder / name for name in names) if path not in self._taken)


def _unwritable(path: Path, error: OSError) -> ConfigError:
    hint = "name another folder with --annotate"
    return ConfigError(f"{path} cannot be written: {error.strerror}", hint=hint, code="annotation-unwritable")
