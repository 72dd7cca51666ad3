"""A damaged disk costs the history of deployments and never the active set: it is written down twice."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agent.greengrass.deployments.active import ActiveRecord, Trusted, judge
from agent.greengrass.deployments.ledger import Ledger, LedgerError

SETS = (b'{"set": 2}' * 400, b'{"set": 1}' * 400)
"""Of more than a page each."""


async def used(folder: Path, name: str = "") -> Path:
    """A ledger after some deployments, closed in order."""
    path = folder / "deployments" / "ledger.db"
    async with Ledger(path) as ledger:
        for number, content in enumerate(reversed(SETS)):
            seq = await ledger.receive(f"{name}d{number}", "TOPIC", b"{}" * 3000, number)
            await ledger.commit(seq, name.encode() + content, b"done")
            await ledger.reported(seq)
        for number in range(20):
            await ledger.end(await ledger.receive(f"no{number}", "TOPIC", b"{}" * 200, 0), b"failed")
        await ledger.number("sequence", 7)
    return path


async def opened(path: Path) -> tuple[tuple[bytes | None, bytes | None], set[str]]:
    """The sets that a ledger has, and its problems; and it can be written."""
    async with Ledger(path) as ledger:
        seq = await ledger.receive("after", "TOPIC", b"{}", 0)
        await ledger.end(seq, b"done")
        assert (await ledger.entries(1))[0].id == "after"
        await ledger.unreported()
        return await ledger.active(), {*ledger.problems}


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("else")


def _another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE deployments (what TEXT)")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "text": lambda path: path.write_text("not a database"),
    "a folder": _a_folder,
    "another program's": _another_program,
    "a log that is none": lambda path: log_of(path).write_bytes(b"\xff" * 5000),
    "a folder as log": lambda path: log_of(path).mkdir(),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_whatever_is_done_to_the_ledger_the_active_set_is_kept(tmp_path: Path, damage: str) -> None:
    path = await used(tmp_path)
    DAMAGES[damage](path)
    sets, problems = await opened(path)
    assert sets == SETS
    assert problems <= {"ledger-renewed"}
    assert await opened(path) == (SETS, set())


async def test_no_flipped_byte_zeroed_page_or_lost_end_costs_the_active_set_or_ends_the_agent(tmp_path: Path) -> None:
    whole = (await used(tmp_path / "whole")).read_bytes()
    record = (tmp_path / "whole" / "deployments" / "active.record").read_bytes()
    chance = random.Random(7)
    damaged = [whole[: chance.randrange(len(whole))] for _ in range(30)]
    for _ in range(90):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 3, 40))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(content))
    damaged += [whole[:start] + b"\0" * 4096 + whole[start + 4096 :] for start in range(0, len(whole), 4096)]
    for number, content in enumerate(damaged):
        path = tmp_path / str(number) / "ledger.db"
        path.parent.mkdir()
        path.write_bytes(content)
        path.with_name("active.record").write_bytes(record)
        sets, problems = await opened(path)
        assert sets == SETS, number
        assert problems <= {"ledger-renewed"}, number
        shutil.rmtree(path.parent)


async def test_the_second_record_is_written_anew_from_the_ledger_however_it_was_damaged(tmp_path: Path) -> None:
    path = await used(tmp_path)
    record = path.with_name("active.record")
    whole = record.read_bytes()
    for content in (None, b"", whole[:-1], whole[:40], b"\0" * len(whole)):
        record.unlink()
        if content is not None:
            record.write_bytes(content)
        assert await opened(path) == (SETS, set())
        assert record.read_bytes() == whole


async def test_a_log_that_was_lost_with_a_commit_in_it_is_not_taken_for_the_older_set(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with Ledger(path) as ledger:
        await ledger.commit(await ledger.receive("a", "TOPIC", b"{}", 0), SETS[1], b"")
    before = path.read_bytes()
    async with Ledger(path) as ledger:
        await ledger.commit(await ledger.receive("b", "TOPIC", b"{}", 0), SETS[0], b"")
    path.write_bytes(before)
    assert await opened(path) == (SETS, {"ledger-renewed"})


async def test_a_ledger_of_another_device_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    path = await used(tmp_path / "this")
    other = await used(tmp_path / "other", "other")
    shutil.copy(other, path)
    assert await opened(path) == (SETS, {"ledger-renewed"})


async def test_a_crash_between_the_two_writes_leaves_what_the_ledger_committed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with Ledger(path) as ledger:
        await ledger.commit(await ledger.receive("a", "TOPIC", b"{}", 0), SETS[1], b"")
        older = path.with_name("active.record").read_bytes()
        await ledger.commit(await ledger.receive("b", "TOPIC", b"{}", 0), SETS[0], b"")
    path.with_name("active.record").write_bytes(older)
    assert await opened(path) == (SETS, set())


async def test_where_both_are_gone_it_is_said_until_something_is_deployed(tmp_path: Path) -> None:
    path = await used(tmp_path)
    path.write_bytes(b"\xff" * 9000)
    path.with_name("active.record").unlink()
    assert await opened(path) == ((None, None), {"ledger-renewed", "active-set"})
    async with Ledger(path) as ledger:
        assert set(ledger.problems) == {"active-set"}
        await ledger.commit(await ledger.receive("new", "TOPIC", b"{}", 0), b"new", b"")
        assert set(ledger.problems) == set()
    assert await opened(path) == ((b"new", None), set())


def overwrite(path: Path) -> None:
    """As a disk or a program might while the ledger is open."""
    for file in (path, log_of(path)):
        with file.open("r+b") as damaged:
            damaged.write(b"\xff" * file.stat().st_size)


async def test_a_ledger_that_is_damaged_while_it_is_open_goes_on_as_a_new_one(tmp_path: Path) -> None:
    path = await used(tmp_path)
    async with Ledger(path) as ledger:
        seq = await ledger.receive("under way", "TOPIC", b"{}", 0)
        overwrite(path)
        await ledger.commit(seq, b"new", b"done")
        assert await ledger.active() == (b"new", SETS[0])
    sets, _ = await opened(path)
    assert sets == (b"new", SETS[0])


async def test_what_components_set_is_kept_by_a_ledger_that_is_damaged_while_it_is_open(tmp_path: Path) -> None:
    path = await used(tmp_path)
    large = b"x" * 5_000_000  # more than SQLite has in memory, so that it notices
    async with Ledger(path) as ledger:
        await ledger.configure({"early": b"1", "large": large})
    async with Ledger(path) as ledger:
        await ledger.configure({"one": b"1"})
        overwrite(path)
        assert await ledger.configurations() == {"early": b"1", "large": large, "one": b"1"}
        assert set(ledger.problems) == {"ledger-renewed"}
    async with Ledger(path) as ledger:
        assert await ledger.configurations() == {"early": b"1", "large": large, "one": b"1"}
        await ledger.commit(await ledger.receive("next", "TOPIC", b"{}", 0), b"new", b"")
        assert await ledger.configurations() == {}


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_folder_that_is_removed_or_replaced_under_an_open_ledger_is_noticed_and_nothing_more_is_lost(
    tmp_path: Path, replaced: bool
) -> None:
    path = await used(tmp_path / "data")
    other = await used(tmp_path / "other", "other")
    async with Ledger(path) as ledger:
        await ledger.number("sequence", 8)
        shutil.rmtree(tmp_path / "data")
        if replaced:
            shutil.copytree(other.parent, path.parent)
        await ledger.end(await ledger.receive("later", "TOPIC", b"{}", 0), b"done")
        assert set(ledger.problems) == {"data-folder"}
    async with Ledger(path) as ledger:
        assert [entry.id for entry in await ledger.entries(2)] == ["later", "no19"]
        assert await ledger.active() == SETS
        assert await ledger.number("sequence") == 8


async def test_a_disk_that_is_mounted_late_is_not_overwritten_with_the_nothing_before_it(tmp_path: Path) -> None:
    disk = await used(tmp_path / "disk")
    path = tmp_path / "data" / "deployments" / "ledger.db"
    async with Ledger(path) as ledger:
        shutil.rmtree(path.parent)
        shutil.copytree(disk.parent, path.parent)
        await ledger.end(await ledger.receive("later", "TOPIC", b"{}", 0), b"done")
        assert "restart the agent" in str(ledger.problems["data-folder"])
    assert await opened(path) == (SETS, set())


async def test_a_link_to_a_disk_that_is_not_there_is_left_and_tried_again(tmp_path: Path) -> None:
    path = await used(tmp_path)
    disk = tmp_path / "disk"
    path.rename(tmp_path / "kept")
    path.symlink_to(disk / "ledger.db")
    async with Ledger(path) as ledger:
        assert await ledger.active() == SETS
        with pytest.raises(LedgerError):
            await ledger.receive("a", "TOPIC", b"{}", 0)
        disk.mkdir()
        (tmp_path / "kept").rename(disk / "ledger.db")
        await ledger.receive("a", "TOPIC", b"{}", 0)
    assert (await opened(path))[0] == SETS


async def test_numbers_and_deployments_that_ended_are_saved_of_a_damaged_ledger(tmp_path: Path) -> None:
    path = await used(tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(b'{"set": 2}')
    content[place] ^= 1
    path.write_bytes(content)
    async with Ledger(path) as ledger:
        assert set(ledger.problems) == {"ledger-renewed"}
        assert await ledger.number("sequence") == 7
        assert [entry.id for entry in await ledger.entries(1)] == ["no19"]


async def test_the_disk_that_cannot_be_written_refuses_with_the_reason_and_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "data" / "ledger.db"
    path.parent.write_text("a file where the folder would be")
    async with Ledger(path) as ledger:
        assert await ledger.active() == (None, None)
        assert await ledger.entries() == []
        with pytest.raises(LedgerError, match="deployments are refused until it can"):
            await ledger.receive("a", "TOPIC", b"{}", 0)
        assert set(ledger.problems) == {"ledger"}
        path.parent.unlink()
        await ledger.receive("a", "TOPIC", b"{}", 0)
        assert set(ledger.problems) == set()


@pytest.mark.parametrize(
    ("ledger", "file", "counts"),
    [
        (ActiveRecord(ledger=1, number=2), ActiveRecord(ledger=1, number=2), Trusted.LEDGER),
        (ActiveRecord(ledger=1, number=3), ActiveRecord(ledger=1, number=2), Trusted.LEDGER),
        (ActiveRecord(ledger=1, number=2), ActiveRecord(ledger=1, number=3), Trusted.FILE),
        (ActiveRecord(ledger=1, number=2, current=b"x"), ActiveRecord(ledger=1, number=2, current=b"y"), Trusted.FILE),
        (ActiveRecord(ledger=2, number=9), ActiveRecord(ledger=1, number=2), Trusted.FILE),
        (ActiveRecord(ledger=2, number=9), ActiveRecord(), Trusted.LEDGER),
        (ActiveRecord(), ActiveRecord(ledger=1, number=2), Trusted.FILE),
        (None, ActiveRecord(ledger=1, number=2), Trusted.FILE),
        (ActiveRecord(ledger=1, number=2), None, Trusted.LEDGER),
        (None, None, Trusted.NEITHER),
    ],
)
def test_which_of_the_two_records_counts(
    ledger: ActiveRecord | None, file: ActiveRecord | None, counts: Trusted
) -> None:
    assert judge(ledger, file) is counts


@pytest.mark.parametrize("damage", ["UPDATE digests SET sha256 = 'x'", "UPDATE sets SET content = 'x'"])
async def test_what_components_set_of_their_configurations_is_salvaged_where_it_can_be_read(
    tmp_path: Path, damage: str
) -> None:
    path = await used(tmp_path)
    async with Ledger(path) as ledger:
        await ledger.configure({"one": b"{}", "other": b"[]"})
    with closing(sqlite3.connect(path)) as database:
        database.execute(damage)
        database.execute("UPDATE configurations SET content = 'x' WHERE component = 'other'")
        database.commit()
    assert await opened(path) == (SETS, {"ledger-renewed"})
    async with Ledger(path) as ledger:
        assert await ledger.configurations() == {"one": b"{}"}


async def test_what_components_set_of_an_older_set_is_not_taken_for_the_newer_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with Ledger(path) as ledger:
        await ledger.commit(await ledger.receive("a", "TOPIC", b"{}", 0), SETS[1], b"")
        await ledger.configure({"one": b"{}"})
    before = path.read_bytes()
    async with Ledger(path) as ledger:
        await ledger.commit(await ledger.receive("b", "TOPIC", b"{}", 0), SETS[0], b"", SETS[1])
    path.write_bytes(before)
    assert await opened(path) == (SETS, {"ledger-renewed"})
    async with Ledger(path) as ledger:
        assert await ledger.configurations() == {}
