"""Shadows on disk: SQLite (standard library) in WAL mode with full synchronisation.

A change is there after a power cut or it is not.  Beside each shadow that is synchronised lies what the two sides last
had in common, which is written in the same transaction as the change that it comes with.  Of a deleted shadow its
version stays, for the latest ones.

A file that is damaged is set aside, and one is begun anew: what is synchronised comes back from IoT Core, and the rest
is reported anew by its components.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from agent import disk
from agent.files import make_file, make_folder
from agent.greengrass.services.shadows import document
from agent.greengrass.services.shadows.document import DEFAULT_BYTES, Shadow, Update
from agent.greengrass.services.shadows.errors import ShadowConflictError, ShadowMissingError, ShadowStoreError
from agent.greengrass.services.shadows.merging import Base
from agent.greengrass.services.shadows.names import ShadowKey

__all__ = ["Change", "DamagedShadowsError", "Room", "ShadowStore"]

log = logging.getLogger(__name__)

Value = TypeVar("Value")

_VERSION: Final = 1
_SCHEMA: Final = f"""
CREATE TABLE shadows (
    thing TEXT NOT NULL, shadow TEXT NOT NULL, version INTEGER NOT NULL, state BLOB, metadata BLOB,
    changed INTEGER NOT NULL, PRIMARY KEY (thing, shadow)
);
CREATE TABLE bases (
    thing TEXT NOT NULL, shadow TEXT NOT NULL, cloud_version INTEGER NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (thing, shadow)
);
PRAGMA user_version = {_VERSION};
"""
_THIS: Final = "thing = ? AND shadow = ?"
_SIZE: Final = "coalesce(sum(length(state) + length(metadata)), 0)"


@dataclass(frozen=True, slots=True)
class Room:
    """How much is kept."""

    shadows: int = 10_000
    bytes: int = 64 * 1024 * 1024
    deleted: int = 10_000
    """Versions of deleted shadows; of the one deleted longest ago it is forgotten first."""


@dataclass(frozen=True, slots=True)
class Change:
    """A shadow before and after an update; before, there may have been none, or a deleted one."""

    before: Shadow | None
    after: Shadow


class DamagedShadowsError(sqlite3.DatabaseError):
    """SQLite can open the file, and yet it is not what this program wrote."""


class ShadowStore:
    """The shadows in a file, called in one thread.  Each method raises ``ShadowStoreError`` for what the disk does."""

    _db: sqlite3.Connection

    def __init__(self, path: Path, room: Room | None = None) -> None:
        self._path = path
        self._room = room or Room()

    def open(self) -> None:
        """Open the file, or make it; one that is damaged is set aside."""
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            if not (disk.is_broken(error) or isinstance(error, DamagedShadowsError)):
                raise _trouble(error) from error
            log.warning("shadows are begun anew: %s is damaged (%s) and set aside", self._path, error)
            self._anew()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, key: ShadowKey) -> Shadow | None:
        """A shadow; None where there is none.  Raises ``ShadowStoreError``."""
        found = self._do(lambda: self._read(key))
        return None if found is None or found.deleted else found

    def update(
        self, key: ShadowKey, update: Update, now_s: int, max_bytes: int = DEFAULT_BYTES, base: Base | None = None, *,
        new: bool = False,
    ) -> Change:  # fmt: skip
        """Merge an update, and keep what both sides have in common then; ``new``: there must be no such shadow.

        Raises as ``document.updated`` besides.
        """

        def do() -> Change:
            before = self._read(key)
            if new and before is not None and not before.deleted:
                raise ShadowConflictError
            after = document.updated(before, update, now_s, max_bytes)
            self._write(key, before, after, now_s)
            if base is not None:
                self._write_base(key, base)
            return Change(before, after)

        return self._do(do)

    def delete(self, key: ShadowKey, now_s: int, version: int | None = None) -> Shadow:
        """Delete a shadow, and give what it was; one of a given version with what both sides had in common.

        Raises ``ShadowMissingError`` and ``ShadowConflictError`` besides.
        """

        def do() -> Shadow:
            before = self._read(key)
            if before is None or before.deleted:
                raise ShadowMissingError(key.shadow)
            if version not in {None, before.version}:
                raise ShadowConflictError
            self._write(key, before, document.deleted(before), now_s)
            if version is not None:
                self._db.execute(f"DELETE FROM bases WHERE {_THIS}", (key.thing, key.shadow))  # noqa: S608 a constant
            self._forget_deleted()
            return before

        return self._do(do)

    def named(self, thing: str, after: str, limit: int) -> list[str]:
        """The names of a thing's named shadows in their order, beginning behind ``after``."""
        query = (
            "SELECT shadow FROM shadows WHERE thing = ? AND shadow > ? AND state IS NOT NULL ORDER BY shadow LIMIT ?"
        )
        return self._do(lambda: [name for (name,) in self._db.execute(query, (thing, after, limit))])

    def base(self, key: ShadowKey) -> Base | None:
        """What both sides last had in common."""
        query = f"SELECT state, cloud_version FROM bases WHERE {_THIS}"  # noqa: S608 a constant
        rows = self._do(lambda: self._db.execute(query, (key.thing, key.shadow)).fetchall())
        return Base(msgspec.json.decode(rows[0][0]), rows[0][1]) if rows else None

    def keep_base(self, key: ShadowKey, base: Base | None) -> None:
        """Keep what both sides have in common now; None is nothing."""

        def do() -> None:
            if base is None:
                self._db.execute(f"DELETE FROM bases WHERE {_THIS}", (key.thing, key.shadow))  # noqa: S608 a constant
            else:
                self._write_base(key, base)

        self._do(do)

    def keep_bases_of(self, keys: Iterable[ShadowKey]) -> None:
        """Forget what both sides had in common of every other shadow."""
        wanted = {(key.thing, key.shadow) for key in keys}

        def do() -> None:
            gone = [row for row in self._db.execute("SELECT thing, shadow FROM bases").fetchall() if row not in wanted]
            self._db.executemany(f"DELETE FROM bases WHERE {_THIS}", gone)  # noqa: S608 a constant

        self._do(do)

    # -- the file --------------------------------------------------------------------------------------------

    def _open(self) -> None:
        make_folder(self._path.parent, ours=True)
        make_file(self._path)
        self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "journal_size_limit = 1048576"):
                self._db.execute(f"PRAGMA {pragma}").fetchall()
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        elif version != _VERSION:
            raise DamagedShadowsError(f"it is of version {version}, and this program writes {_VERSION}")
        if self._db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
            raise DamagedShadowsError("its pages do not fit together")

    def _anew(self) -> None:
        try:
            disk.set_aside(self._path)
            self._open()
        except (sqlite3.Error, OSError) as error:
            raise _trouble(error) from error

    def _do(self, call: Callable[[], Value]) -> Value:
        try:
            with self._transaction():
                return call()
        except sqlite3.Error as error:
            raise _trouble(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # of some errors SQLite rolls back by itself
                self._db.execute("ROLLBACK")
            raise

    # -- rows ------------------------------------------------------------------------------------------------

    def _read(self, key: ShadowKey) -> Shadow | None:
        query = f"SELECT version, state, metadata FROM shadows WHERE {_THIS}"  # noqa: S608 a constant
        rows = self._db.execute(query, (key.thing, key.shadow)).fetchall()
        if not rows:
            return None
        version, state, metadata = rows[0]
        if state is None:
            return Shadow(version, deleted=True)
        return Shadow(version, msgspec.json.decode(state), msgspec.json.decode(metadata))

    def _write(self, key: ShadowKey, before: Shadow | None, after: Shadow, now_s: int) -> None:
        state, metadata = (
            (None, None) if after.deleted else (msgspec.json.encode(after.state), msgspec.json.encode(after.metadata))
        )
        row = (key.thing, key.shadow, after.version, state, metadata, now_s)
        self._db.execute("INSERT OR REPLACE INTO shadows VALUES (?, ?, ?, ?, ?, ?)", row)
        if not after.deleted:
            self._check_room(new=before is None or before.deleted)

    def _check_room(self, *, new: bool) -> None:
        query = f"SELECT count(*), {_SIZE} FROM shadows WHERE state IS NOT NULL"  # noqa: S608 constants
        count, size = self._db.execute(query).fetchone()
        if size > self._room.bytes or (new and count > self._room.shadows):
            raise ShadowStoreError(
                f"there is no room for this: {self._room.shadows} shadows and {self._room.bytes} bytes are kept",
                hint="delete shadows that nobody needs any more",
            )

    def _write_base(self, key: ShadowKey, base: Base) -> None:
        row = (key.thing, key.shadow, base.cloud_version, msgspec.json.encode(base.state))
        self._db.execute("INSERT OR REPLACE INTO bases VALUES (?, ?, ?, ?)", row)

    def _forget_deleted(self) -> None:
        self._db.execute(
            "DELETE FROM shadows WHERE rowid IN (SELECT rowid FROM shadows WHERE state IS NULL"
            " ORDER BY changed DESC, rowid DESC LIMIT -1 OFFSET ?)",
            (self._room.deleted,),
        )


def _trouble(error: sqlite3.Error | OSError) -> ShadowStoreError:
    code = disk.trouble_code(error)
    trouble = ShadowStoreError(f"the shadows on disk: {error}", hint=f"{code}: see to the disk of the data folder")
    trouble.code = code
    return trouble
