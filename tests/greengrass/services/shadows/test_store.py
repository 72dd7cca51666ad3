"""Shadows on disk: what is kept, how much, and through what."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.greengrass.services.shadows.document import Shadow, Update
from agent.greengrass.services.shadows.errors import ShadowConflictError, ShadowMissingError, ShadowStoreError
from agent.greengrass.services.shadows.merging import Base
from agent.greengrass.services.shadows.names import ShadowKey
from agent.greengrass.services.shadows.store import Room, ShadowStore

KEY = ShadowKey("thing", "one")
UPDATE = Update({"reported": {"a": 1}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "shadows.db"


@pytest.fixture
def store(path: Path) -> Iterator[ShadowStore]:
    store = ShadowStore(path, Room(shadows=3, bytes=2000, deleted=2))
    store.open()
    yield store
    store.close()


def reopened(path: Path) -> ShadowStore:
    store = ShadowStore(path)
    store.open()
    return store


def test_a_shadow_is_there_when_the_file_is_opened_again(store: ShadowStore, path: Path) -> None:
    change = store.update(KEY, UPDATE, 10, base=Base({"reported": {"a": 1}}, 4))
    store.close()
    again = reopened(path)
    assert change.before is None
    assert again.get(KEY) == change.after == Shadow(1, {"reported": {"a": 1}}, {"reported": {"a": {"timestamp": 10}}})
    assert again.base(KEY) == Base({"reported": {"a": 1}}, 4)
    again.close()


def test_only_its_owner_can_read_it(store: ShadowStore, path: Path) -> None:
    store.update(KEY, UPDATE, 10)
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == {
        "shadows.db": "0o600", "shadows.db-wal": "0o600", "shadows.db-shm": "0o600",
    }  # fmt: skip


def test_a_deleted_shadow_is_gone_and_its_version_goes_on(store: ShadowStore) -> None:
    store.update(KEY, UPDATE, 10)
    assert store.delete(KEY, 11).version == 1
    assert store.get(KEY) is None
    with pytest.raises(ShadowMissingError):
        store.delete(KEY, 12)
    assert store.update(KEY, UPDATE, 13).after.version == 3


def test_what_has_come_between_is_a_conflict(store: ShadowStore) -> None:
    store.update(KEY, UPDATE, 10)
    with pytest.raises(ShadowConflictError):
        store.update(KEY, UPDATE, 10, new=True)
    with pytest.raises(ShadowConflictError):
        store.delete(KEY, 10, version=7)
    assert store.get(KEY) == Shadow(1, {"reported": {"a": 1}}, {"reported": {"a": {"timestamp": 10}}})


def test_an_update_that_is_refused_changes_nothing(store: ShadowStore) -> None:
    store.update(KEY, UPDATE, 10)
    with pytest.raises(ShadowConflictError):
        store.update(KEY, Update({"reported": {"a": 2}}, version=9), 10, base=Base({}, 9))
    assert store.get(KEY) == Shadow(1, {"reported": {"a": 1}}, {"reported": {"a": {"timestamp": 10}}})
    assert store.base(KEY) is None


def test_so_many_shadows_are_kept_and_another_is_refused(store: ShadowStore) -> None:
    for name in "abc":
        store.update(ShadowKey("thing", name), UPDATE, 10)
    with pytest.raises(ShadowStoreError, match="3 shadows and 2000 bytes are kept"):
        store.update(ShadowKey("thing", "d"), UPDATE, 10)
    assert store.named("thing", "", 9) == ["a", "b", "c"]
    assert store.update(ShadowKey("thing", "a"), UPDATE, 10).after.version == 2
    store.delete(ShadowKey("thing", "a"), 10)
    assert store.update(ShadowKey("thing", "d"), UPDATE, 10).after.version == 1


def test_so_many_bytes_are_kept_and_more_are_refused(store: ShadowStore) -> None:
    store.update(KEY, Update({"reported": {"a": "x" * 900}}), 10)
    with pytest.raises(ShadowStoreError, match="no room"):
        store.update(ShadowKey("thing", "two"), Update({"reported": {"a": "x" * 1100}}), 10)
    assert store.get(ShadowKey("thing", "two")) is None


def test_of_the_shadow_that_was_deleted_longest_ago_the_version_is_forgotten(store: ShadowStore) -> None:
    for now, name in enumerate("abc"):
        store.update(ShadowKey("thing", name), UPDATE, now)
        store.delete(ShadowKey("thing", name), now)
    versions = {name: store.update(ShadowKey("thing", name), UPDATE, 10).after.version for name in "abc"}
    assert versions == {"a": 1, "b": 3, "c": 3}


def test_named_shadows_are_listed_in_order_and_the_classic_one_is_not_among_them(store: ShadowStore) -> None:
    for key in (KEY, ShadowKey("thing"), ShadowKey("other", "x")):
        store.update(key, UPDATE, 10)
    assert (store.named("thing", "", 9), store.named("thing", "one", 9)) == (["one"], [])


def test_what_both_sides_had_in_common_goes_with_the_configuration_and_with_the_shadow(store: ShadowStore) -> None:
    other = ShadowKey("other")
    for key in (KEY, other):
        store.update(key, UPDATE, 10, base=Base({}, 1))
    store.keep_bases_of([other])
    assert (store.base(KEY), store.base(other)) == (None, Base({}, 1))
    store.delete(other, 10, version=1)
    assert store.base(other) is None


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(4000)])
def test_a_damaged_file_is_set_aside_and_one_is_begun_anew(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = reopened(path)
    assert store.get(KEY) is None
    store.update(KEY, UPDATE, 10)
    store.close()
    (aside,) = path.parent.glob("shadows.db.broken-*")
    assert aside.read_bytes() == content


def test_a_file_of_another_version_is_set_aside(path: Path) -> None:
    reopened(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 7")
    other.close()
    reopened(path).close()
    assert len(list(path.parent.glob("shadows.db.broken-*"))) == 1


def test_a_disk_that_takes_nothing_is_an_error_that_can_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ShadowStoreError, match="the shadows on disk"):
        ShadowStore(tmp_path / "file" / "shadows.db").open()


def test_what_was_answered_is_there_after_a_kill(path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from agent.greengrass.services.shadows.document import Update
from agent.greengrass.services.shadows.names import ShadowKey
from agent.greengrass.services.shadows.store import ShadowStore
store = ShadowStore(Path({str(path)!r}))
store.open()
for count in range(1_000_000):
    change = store.update(ShadowKey("thing", "one"), Update({{"reported": {{"count": count}}}}), 10)
    print(change.after.version, count, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(20)]
        os.kill(child.pid, signal.SIGKILL)
        said += child.stdout.readlines()
    version, count = map(int, [line for line in said if line.endswith("\n")][-1].split())
    store = reopened(path)
    shadow = store.get(KEY)
    store.close()
    assert shadow is not None
    # One more may have been written whose answer the kill cut off.
    assert (shadow.version, json.loads(json.dumps(shadow.state))) in [
        (version + more, {"reported": {"count": count + more}}) for more in (0, 1)
    ]
