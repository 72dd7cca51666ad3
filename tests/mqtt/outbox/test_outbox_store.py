"""What the outbox keeps: bounds and who gives way, ages, broken files, full disks, and a kill at any statement."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agent.config.transports import OutboxOptions
from agent.mqtt.outbox.record import SHIFT, Record, identified, rank_of, route, written
from agent.mqtt.outbox.scheduler import Load
from agent.mqtt.outbox.store import Job, Report, Store, connect
from agent.mqtt.transport import Message

KILL_SCRIPTS = int(os.environ.get("VERGE_KILL_SCRIPTS", "12"))
"""Each is some hundred kills; VERGE_KILL_SCRIPTS=200 makes it tens of thousands."""

RANK = {"control": 0, "snapshots": 2}


def record(number: int, topic: str = "a", size: int = 100, *, at_ms: int = 0, state: bool = False) -> Record:
    message = identified(Message(topic, b"%d " % number + b"x" * size, 1, retain=state), f"run-{number}")
    facts, cost = written(message)
    return Record(RANK.get(topic, 1) << SHIFT | number, at_ms, message, facts, cost)


def numbers(records: list[Record]) -> list[int]:
    return [int(each.message.payload.split()[0]) for each in records]


class Box:
    """A store with a clock; it is closed when the test ends."""

    opened: ClassVar[list[Box]] = []

    def __init__(self, path: Path, connecting: Callable[[str], sqlite3.Connection] = connect, **options: Any) -> None:
        self.path = path
        self.now_ms = 0
        self.held: list[Record] = []
        self.store = Store(path, OutboxOptions(**options), lambda topic: RANK.get(topic, 1), connecting)
        self.reports: list[Report] = []
        Box.opened.append(self)

    def do(self, *adds: Record, **job: Any) -> Report:
        self.reports.append(self.store.perform(Job(self.now_ms, adds, **{"held": self.held, **job})))
        return self.reports[-1]

    def waiting(self, rank: int = 1) -> list[Record]:
        found: list[Record] = []
        while True:
            (loaded,) = self.do(loads=[Load(rank, found[-1].seq if found else 0, 0)]).loaded
            found += loaded.records or []
            if loaded.exhausted:
                return found

    def fill_disk(self) -> None:
        """From now on the database cannot grow."""
        assert self.store._disk is not None
        connection = self.store._disk._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    def make_room(self) -> None:
        assert self.store._disk is not None
        self.store._disk._connection.execute("PRAGMA max_page_count = 1000000")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "outbox.db"


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    Watched.before = staticmethod(lambda _: None)
    while Box.opened:
        Box.opened.pop().store.close()


def test_a_message_is_the_same_after_a_restart(path: Path):
    sent = Message(
        "a", b"\x00\xff", 2, retain=True, content_type="application/json", response_topic="r", correlation_data=b"\xfe",
        user_properties=(("id", "é"), ("verge-id", "7")), expiry_s=60,
    )  # fmt: skip
    facts, size = written(sent)
    box = Box(path)
    box.do(Record(1 << SHIFT | 1, 123, sent, facts, size))
    box.store.close()
    (found,) = Box(path).waiting()
    assert found == Record(1 << SHIFT | 1, 123, sent, facts, size)


def test_what_is_durable_is_synchronised_at_every_commit(path: Path):
    box = Box(path)
    box.do(record(1))
    ask = box.store._disk._connection.execute
    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ask("PRAGMA synchronous").fetchone() == (2,)


def test_the_first_report_tells_what_an_earlier_process_left(path: Path):
    box = Box(path)
    box.do(record(7, "a"), record(8, "a"), record(9, "snapshots"))
    box.store.close()
    report = Box(path).do()
    assert (report.opened, report.topics, report.last, report.messages) == (True, {"a": 2, "snapshots": 1}, 9, 3)


def test_what_the_table_of_ranks_says_otherwise_moves_to_its_new_rank(path: Path, monkeypatch: pytest.MonkeyPatch):
    box = Box(path)
    box.do(record(1, "other"), record(2, "snapshots"), record(3, "other"))
    box.store.close()
    monkeypatch.setitem(RANK, "other", 0)
    box = Box(path)
    box.do()
    assert [numbers(box.waiting(rank)) for rank in range(3)] == [[1, 3], [], [2]]
    assert box.do(removes=[1, 3, 2 << SHIFT | 2]).messages == 0


def test_a_topic_is_routed_by_the_table(path: Path):
    options = OutboxOptions(topics=("verge/#", "$aws/things/+/jobs/#"))
    for topic, stored, rank in [
        ("verge/t/status", True, 0),
        ("verge/t/deployments/7", True, 0),
        ("$aws/things/t/jobs/7/update", True, 0),
        ("verge/t/results/line-3", True, 1),
        ("verge/t/snapshots/line-3", True, 2),
        ("other/topic", False, 1),
    ]:
        assert (route(options, topic).stored, route(options, topic).rank) == (stored, rank), topic
    assert not route(OutboxOptions(), "$aws/things/t/jobs/7/update").stored


# -- bounds -------------------------------------------------------------------------------------------------


def room_for(count: int) -> int:
    return sum(record(number, size=1000).size for number in range(1, count + 1)) + 50


@pytest.mark.parametrize(
    ("policy", "left"),
    [("drop-oldest", [6, 7, 8, 9, 10]), ("drop-new", [1, 2, 3, 4, 5])],
)
@pytest.mark.parametrize("at_once", [1, 10])
def test_at_the_bound_the_policy_says_who_gives_way(path: Path, policy: str, left: list[int], at_once: int):
    box = Box(path, policy=policy, max_bytes=room_for(5))
    messages = [record(number, size=1000) for number in range(1, 11)]
    for start in range(0, 10, at_once):
        box.do(*messages[start : start + at_once])
    assert numbers(box.waiting()) == left
    dropped = [drop for report in box.reports for drop in report.drops]
    assert len(dropped) == 5
    assert {drop.reason for drop in dropped} == {"outbox-full"}
    told = {seq for report in box.reports for seq in report.durable}
    assert {each.seq for each in box.waiting()} <= told


def test_at_the_bound_to_the_byte_nothing_gives_way(path: Path):
    messages = [record(number, size=1000) for number in range(1, 6)]
    box = Box(path, max_bytes=sum(each.size for each in messages))
    assert box.do(*messages).drops == []
    box.store.close()
    box = Box(path, max_bytes=sum(each.size for each in messages) - 1)
    assert numbers_of(box.do(record(6, size=1)).drops) == [1]


def numbers_of(drops: list[Any]) -> list[int]:
    return [drop.seq & ((1 << SHIFT) - 1) for drop in drops]


def test_newest_per_stream_keeps_the_only_message_of_a_quiet_stream(path: Path):
    box = Box(path, policy="newest-per-stream", max_bytes=room_for(4))
    box.do(record(1, "q", 1000))
    for number in range(2, 20):
        box.do(record(number, "b", 1000))
    assert numbers(box.waiting()) == [1, 17, 18, 19]
    for number in range(20, 25):
        box.do(record(number, chr(number + 80), 1000))
    assert numbers(box.waiting()) == [21, 22, 23, 24]


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-new", "newest-per-stream"])
def test_a_lower_rank_gives_way_first_whatever_the_policy(path: Path, policy: str):
    box = Box(path, policy=policy, max_bytes=room_for(4))
    box.do(*(record(number, "control", 900) for number in (1, 2)))
    box.do(record(3, "snapshots", 900), record(4, "a", 900))
    box.do(record(5, "control", 900))
    assert [numbers(box.waiting(rank)) for rank in range(3)] == [[1, 2, 5], [4], []]
    refused = box.do(record(6, "snapshots", 1000))
    assert numbers_of(refused.drops) == [6]
    assert refused.durable == []


def test_what_may_be_on_the_wire_does_not_give_way(path: Path):
    box = Box(path, max_bytes=room_for(3))
    held = [record(number, size=1000) for number in (1, 2)]
    box.do(*held)
    box.do(record(3, size=1000), record(4, size=1000), held=held)
    assert numbers(box.waiting()) == [1, 2, 4]


def test_a_state_takes_the_place_of_the_one_before_and_a_result_does_not(path: Path):
    box = Box(path)
    box.do(*(record(number, "status", state=True) for number in range(1, 500)))
    report = box.do(record(500, "status", state=True), record(501, "other", state=True))
    assert [drop.reason for drop in report.drops] == ["superseded"]
    assert numbers(box.waiting()) == [500, 501]
    message = Message("status", b"502 ", 1, retain=True, user_properties=(("id", "of a result"),))
    box.do(*(Record(1 << SHIFT | number, 0, message, *written(message)) for number in (502, 503)))
    assert len(box.waiting()) == 4


def test_what_is_too_old_goes_and_is_counted(path: Path):
    box = Box(path, max_age_s=10)
    box.do(*(record(number, at_ms=1000 * number) for number in range(20)))
    box.now_ms = 15_000
    report = box.do(tick=True)
    assert [drop.reason for drop in report.drops] == ["expired"] * 5
    assert numbers(box.waiting()) == list(range(5, 20))
    assert box.store.oldest_ms == 5000


def test_the_file_is_not_much_larger_than_its_bound_and_shrinks_when_it_is_empty(path: Path):
    box = Box(path, max_bytes=20_000_000)
    for start in range(0, 30_000, 2000):
        box.do(*(record(number, "verge/thing/results/line-3", 700) for number in range(start, start + 2000)))
    box.do(tick=True)
    assert 15_000_000 < path.stat().st_size < 24_000_000
    box.do(removes=[each.seq for each in box.waiting()])
    box.do(tick=True)
    box.store.close()
    assert path.stat().st_size < 100_000


def test_large_messages_are_read_a_few_at_a_time(path: Path):
    box = Box(path)
    box.do(*(record(number, size=400_000) for number in range(1, 11)))
    (loaded,) = box.do(loads=[Load(1, 0, 0)]).loaded
    assert len(loaded.records) == 3
    assert not loaded.exhausted
    assert numbers(box.waiting()) == list(range(1, 11))


# -- disks --------------------------------------------------------------------------------------------------


def test_a_full_disk_leaves_memory_and_gets_all_of_it_when_there_is_room(path: Path):
    box = Box(path, memory_bytes=1_000_000)
    box.do(*(record(number) for number in range(1, 5)))
    box.fill_disk()
    report = box.do(*(record(number, size=50_000) for number in range(5, 10)))
    assert (report.durable, box.store.trouble.code) == ([], "disk-full")
    assert report.messages == 9
    assert numbers(box.waiting()) == list(range(1, 10))
    removed = box.do(removes=[1 << SHIFT | number for number in (1, 5)]).removed
    assert removed == [1 << SHIFT | 5]  # that of 1 is to be told to the disk
    box.make_room()
    box.now_ms += 60_000
    report = box.do(tick=True)
    assert numbers_of_seqs(report.durable) == [6, 7, 8, 9]
    assert box.store.trouble is None
    box.store.close()
    assert numbers(Box(path).waiting()) == [2, 3, 4, 6, 7, 8, 9]


def numbers_of_seqs(seqs: list[int]) -> list[int]:
    return [seq & ((1 << SHIFT) - 1) for seq in seqs]


def test_what_memory_cannot_hold_is_counted_by_what_ails_the_disk(path: Path):
    box = Box(path, memory_bytes=room_for(3))
    box.do()
    box.fill_disk()
    for number in range(1, 40):
        box.do(record(number, size=1000))
    lost = [drop for report in box.reports for drop in report.drops]
    told = {seq for report in box.reports for seq in report.durable}
    kept = {each.seq for each in box.waiting()}
    assert {drop.reason for drop in lost} == {"disk-full"}
    assert len(lost) + len(kept) == 39
    assert told <= kept  # what was said to be on disk is none of the lost


def test_a_disk_that_is_full_is_not_asked_again_at_once(path: Path):
    box = Box(path)
    box.do()
    box.fill_disk()
    box.do(record(1, size=50_000))
    box.make_room()
    assert box.do(record(2)).durable == []
    box.now_ms += 1000
    assert len(box.do(record(3)).durable) == 3


def test_a_folder_that_cannot_be_made_leaves_memory(tmp_path: Path):
    (tmp_path / "file").write_text("")
    box = Box(tmp_path / "file" / "outbox.db")
    assert box.do(record(1)).durable == []
    assert box.store.trouble is not None
    assert numbers(box.waiting()) == [1]
    (tmp_path / "file").unlink()
    box.now_ms += 60_000
    assert len(box.do(tick=True).durable) == 1
    assert box.store.trouble is None


def test_a_file_that_another_process_has_leaves_memory_until_it_is_free(path: Path):
    first, second = Box(path), Box(path)
    first.do(record(1))
    second.do(record(1_000_000))
    assert second.store.trouble.code == "outbox-locked"
    first.store.close()
    second.now_ms += 60_000
    report = second.do(tick=True)
    assert (report.opened, report.last) == (True, 1_000_000)
    assert numbers(second.waiting()) == [1, 1_000_000]


def test_a_file_that_is_no_database_is_set_aside(path: Path):
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 1000)
    box = Box(path)
    assert len(box.do(record(1)).durable) == 1
    assert box.store.set_aside is not None
    assert box.store.set_aside.read_bytes().startswith(b"not a database")
    assert numbers(box.waiting()) == [1]


def test_the_file_of_another_version_is_set_aside(path: Path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    box = Box(path)
    assert len(box.do(record(1)).durable) == 1
    assert box.store.set_aside is not None


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_is_removed_or_replaced_under_the_outbox_costs_no_message(path: Path, replaced: bool):
    other = Box(path.parent.parent / "other" / "outbox.db")
    other.do(record(100))
    other.store.close()
    box = Box(path)
    box.do(*(record(number) for number in range(1, 20)))
    shutil.rmtree(path.parent)
    if replaced:
        shutil.copytree(other.path.parent, path.parent)
    assert len(box.do(record(20)).durable) == 1
    expected = [*range(1, 21), *([100] if replaced else [])]
    assert numbers(box.waiting()) == expected
    box.store.close()
    assert path.stat().st_mode & 0o077 == 0
    assert numbers(Box(path).waiting()) == expected


def test_only_the_last_files_set_aside_are_kept(path: Path):
    path.parent.mkdir()
    for _ in range(4):
        path.write_bytes(b"not a database" * 1000)
        box = Box(path)
        box.do(record(1))
        box.store.close()
    assert len(list(path.parent.glob("*.broken-*Z"))) == 2


@pytest.mark.parametrize("at_work", [False, True])
def test_what_can_be_read_of_a_broken_file_is_saved_and_the_rest_is_counted(path: Path, at_work: bool):
    box = Box(path)
    count = 2000
    for start in range(0, count, 100):
        box.do(*(record(number, size=300) for number in range(start, start + 100)))
    held = box.waiting()[count // 2 - 100 : count // 2 + 100] if at_work else []
    if not at_work:
        box.store.close()
    else:
        box.store._disk._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        box.store._disk._connection.execute("PRAGMA cache_size = 0")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 // 4096 * 4096)
        file.write(os.urandom(4 * 4096))
    if not at_work:
        box = Box(path)
    box.held = held
    seen = box.waiting()
    report = box.do(record(count))
    saved = {number for number in numbers(box.waiting()) if number < count}
    assert box.store.set_aside is not None
    assert count - 200 < len(saved) <= count - (not at_work)
    assert set(numbers(held)) <= saved
    assert len(report.durable) == 1
    assert len(seen) <= count
    if at_work:
        assert {each.message.payload for each in held} <= {each.message.payload for each in box.waiting()}
        assert sum(each.broken for each in box.reports) == count - len(saved)


# -- kills --------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Path]:
    """A path in memory where there is such a file system: a kill leaves what was written, synchronised or not."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as folder:
        yield Path(folder) / "outbox.db"


@dataclass
class Snapshot:
    """The files at one moment, what was said to be durable, and what was said to be removed."""

    folder: Path
    durable: set[int]
    asked: set[int]
    """To be removed, or to give way, in this job or earlier."""
    synced: int
    """Bytes of the log that were synchronised."""


class Watched(sqlite3.Connection):
    """Takes a picture of the files before each statement."""

    before: Callable[[str], None] = staticmethod(lambda _: None)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        Watched.before(statement)
        return super().execute(statement, *values)


def watched(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=0, factory=Watched)


def run_script(path: Path, seed: int) -> list[Snapshot]:
    """Random jobs, and a snapshot before each statement of each."""
    chance = random.Random(seed)
    snapshots: list[Snapshot] = []
    durable: set[int] = set()
    asked: set[int] = set()
    removing: set[int] = set()
    synced = 0

    def before(_: str) -> None:
        folder = path.parent / f"kill-{len(snapshots)}"
        folder.mkdir(parents=True)
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copy(part, folder)
        snapshots.append(Snapshot(folder, set(durable), set(asked), synced))

    Watched.before = staticmethod(before)
    box = Box(path, watched, max_bytes=30_000, policy=chance.choice(["drop-oldest", "newest-per-stream"]))
    number = 0
    for _ in range(12):
        adds = []
        for _ in range(chance.randrange(6)):
            number += 1
            topic = chance.choice(["a", "b", "control", "snapshots"])
            adds.append(record(number, topic, chance.randrange(3000), state=topic == "control"))
        first = len(snapshots)
        removing = set(chance.sample(sorted(durable - asked), min(len(durable - asked), chance.randrange(4))))
        report = box.do(*adds, removes=sorted(removing))
        asked |= removing | {drop.seq for drop in report.drops}
        durable |= set(report.durable)
        for snapshot in snapshots[first:]:
            snapshot.asked = set(asked)
        wal = path.with_name(f"{path.name}-wal")
        synced = wal.stat().st_size if wal.exists() else 0
    before("end")
    return snapshots


def survivors(folder: Path, name: str) -> list[int]:
    box = Box(folder / name)
    box.do()
    assert box.store.set_aside is None
    assert box.store.trouble is None
    found = [each for rank in range(3) for each in box.waiting(rank)]
    assert all(each.message.payload.split()[0] == b"%d" % (each.seq & ((1 << SHIFT) - 1)) for each in found)
    total = box.do().messages
    box.store.close()
    assert total == len(found)
    return [each.seq for each in found]


@pytest.mark.parametrize("seed", range(KILL_SCRIPTS))
def test_killed_before_any_statement_it_has_all_that_was_said_to_be_durable(quick: Path, seed: int):
    snapshots = run_script(quick, seed)
    assert len(snapshots) > 50
    for snapshot in snapshots:
        found = survivors(snapshot.folder, quick.name)
        assert snapshot.durable - snapshot.asked <= set(found)
        assert found == sorted(found)


@pytest.mark.parametrize("seed", range(KILL_SCRIPTS))
def test_a_power_cut_that_tears_what_was_not_synchronised_loses_nothing_durable(quick: Path, seed: int):
    snapshots = run_script(quick, seed)
    chance = random.Random(seed)
    for snapshot in snapshots:
        wal = snapshot.folder / f"{quick.name}-wal"
        if not wal.exists() or not snapshot.synced:
            continue
        rest = max(0, wal.stat().st_size - snapshot.synced)
        with wal.open("r+b") as file:
            file.truncate(snapshot.synced + chance.randrange(rest + 1))
            file.seek(0, os.SEEK_END)
            file.write(chance.randbytes(chance.randrange(9000)))
        assert snapshot.durable - snapshot.asked <= set(survivors(snapshot.folder, quick.name))


def test_ranks_stand_in_the_numbers():
    assert [rank_of(record(1, topic).seq) for topic in ("control", "a", "snapshots")] == [0, 1, 2]
