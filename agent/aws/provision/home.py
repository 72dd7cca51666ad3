"""Where an identity lives: a folder of mode 0700 with a folder for each certificate and two links.

::

    identity/
      4f1d…/             certificate.pem, private.key, ca.pem where one was given: mode 0600
      current -> 4f1d…
      previous -> 09ab…  what ``rollback`` goes back to

A certificate and its key change together: the link is replaced in one step, and whoever reads through it gets the
old pair or the new one.  A pair that is being made is in a folder whose name begins with ``.new-``; nobody looks
there, and one that an interruption left goes with the next attempt.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent.aws.provision.errors import ProvisioningError
from agent.aws.provision.keys import certificate_facts
from agent.files import remove_tree, write_atomically

__all__ = ["AUTHORITIES", "CERTIFICATE", "KEY", "Home", "Pair"]

CERTIFICATE, KEY, AUTHORITIES = "certificate.pem", "private.key", "ca.pem"
_CURRENT, _PREVIOUS, _NEW = "current", "previous", ".new-"
_PRIVATE, _PRIVATE_FOLDER = 0o600, 0o700
_ID = 16
_NAME = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key in a folder."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The certificate's file."""
        return self.folder / CERTIFICATE

    @property
    def key(self) -> Path:
        """The private key's file."""
        return self.folder / KEY

    @property
    def authorities(self) -> Path | None:
        """The file of the authorities to trust, where one was given."""
        path = self.folder / AUTHORITIES
        return path if path.exists() else None

    def write(self, name: str, data: bytes) -> None:
        """Put a file in; on disk when this returns."""
        write_atomically(self.folder / name, data, _PRIVATE)


class Home:
    """The folder; it is made when something is put in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, certificate: str | None) -> Self:
        """The home of a certificate as a configuration names it; raises ``ProvisioningError`` where it has none."""
        path = Path(certificate or "")
        if path.parent.name != _CURRENT:
            raise ProvisioningError(
                f"{certificate or 'no certificate'} is not below a link that is called {_CURRENT}",
                code="no-home",
                hint="only what `verge provision` laid out can be rotated: take it over with verge provision files",
            )
        return cls(path.parent.parent)

    @property
    def current(self) -> Pair:
        """The pair in use, named through the link, so that it stays right after a change."""
        return Pair(self.folder / _CURRENT)

    @contextmanager
    def staging(self) -> Iterator[Pair]:
        """An empty place for a new pair; gone when the context is left, unless it was kept."""
        try:
            self._private()
            for left in self.folder.glob(f"{_NEW}*"):
                if left.is_symlink():
                    left.unlink()
                else:
                    remove_tree(left)
            place = self.folder / f"{_NEW}{os.getpid()}"
            place.mkdir(mode=_PRIVATE_FOLDER)
        except OSError as error:
            raise ProvisioningError(
                f"{error.filename or self.folder} cannot be written: {error.strerror}",
                hint="run it as the agent's user",
            ) from error
        try:
            yield Pair(place)
        finally:
            if place.exists():
                remove_tree(place)

    def keep(self, staged: Pair) -> Pair:
        """Make a staged pair the current one, in one step; the one before it is the previous, older ones go."""
        place = self.folder / certificate_facts(staged.certificate.read_bytes()).id[:_ID]
        if place.exists() and self._target(_CURRENT) == place:
            return self.current  # the very same certificate
        if place.exists():
            remove_tree(place)
        staged.folder.rename(place)
        before = self._target(_CURRENT)
        if before is not None:
            self._link(_PREVIOUS, before)
        self._link(_CURRENT, place)
        self._sync()
        self._clear({place, before})
        return self.current

    def rollback(self) -> Pair:
        """Go back to the previous pair; raises ``ProvisioningError`` where there is none."""
        current, previous = self._target(_CURRENT), self._target(_PREVIOUS)
        if previous is None or current is None or previous == current:
            raise ProvisioningError(
                f"{self.folder} has no previous identity", code="no-previous", hint="there was no rotation before"
            )
        self._link(_CURRENT, previous)
        self._link(_PREVIOUS, current)
        self._sync()
        return self.current

    def _private(self) -> None:
        """Make the folder; one that is there already is taken only if nobody else may look into it."""
        if not self.folder.exists():
            self.folder.mkdir(mode=_PRIVATE_FOLDER, parents=True)
        elif self.folder.stat().st_mode & 0o077:
            raise ProvisioningError(
                f"{self.folder} can be read by others",
                code="identity-exposed",
                hint=f"chmod 700 {self.folder}, or name another folder with --identity",
            )

    def _target(self, name: str) -> Path | None:
        link = self.folder / name
        place = self.folder / link.readlink() if link.is_symlink() else None
        return place if place is not None and place.is_dir() else None

    def _link(self, name: str, place: Path) -> None:
        temporary = self.folder / f"{_NEW}{name}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(place.name)
        temporary.replace(self.folder / name)

    def _sync(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _clear(self, kept: set[Path | None]) -> None:
        for entry in self.folder.iterdir():
            ours = _NAME.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink()
            if ours and entry not in kept:
                shutil.rmtree(entry, ignore_errors=True)
