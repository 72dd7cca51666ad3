"""Captures on their way: batches, periods, full buffers, disks and networks that fail; each arrives once, in order."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.edgeapi.edge_manager.capture.capture import BufferFullError, Capture, CaptureLimits
from agent.edgeapi.edge_manager.capture.destinations import Bucket, Folder
from agent.edgeapi.edge_manager.capture.queue import Rules
from agent.edgeapi.edge_manager.capture.record import CapturePlace, File, Item, Record
from agent.edgeapi.edge_manager.capture.spool import CaptureExistsError, State
from agent.edgeapi.edge_manager.capture.upload import upload
from agent.errors import InvalidInputError, UnreachableError
from tests.support.moto import Moto
from tests.support.until import until

PLACE = CapturePlace("box", "north", "file:///out", "pre")
ROOM = CaptureLimits(1000, 1 << 20)
THREE = Rules(3, 60.0)


def record(number: int, size: int = 8) -> Record:
    return Record(f"c{number}", "shop", "1", 1_700_000_000, (Item("in", f"Tensor[uint8; {size}]", bytes(size)),))


class Doubtful:
    """A destination that fails as long as ``trouble`` is set, and remembers what it was given."""

    def __init__(self) -> None:
        self.trouble: Exception | None = None
        self.batches: list[list[str]] = []

    async def write(self, files: Sequence[File]) -> None:
        if self.trouble:
            raise self.trouble
        self.batches.append(ids(files))


def ids(files: Sequence[File]) -> list[str]:
    lines = b"".join(file.data for file in files if file.path.endswith(".jsonl")).splitlines()
    return [json.loads(line)["eventMetadata"]["eventId"] for line in lines]


def written(folder: Path) -> list[str]:
    """The ids in a folder, in the order of their files' times."""
    paths = sorted(folder.rglob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    return ids([File(str(path), path.read_bytes()) for path in paths])


@asynccontextmanager
async def capturing(
    folder: Path, destination=None, rules: Rules = THREE, limits: CaptureLimits = ROOM, **how
) -> AsyncIterator[Capture]:
    destination = destination or Folder(folder / "out")
    async with Capture(folder / "spool" / "captures.db", PLACE, destination, rules, limits, base_s=0.01, **how) as made:
        yield made


async def test_a_batch_is_written_when_it_is_full(tmp_path: Path) -> None:
    async with capturing(tmp_path) as capture:
        for number in range(4):
            await capture.take(record(number))
        await until(lambda: capture.report.arrived == 3)
        assert written(tmp_path / "out") == ["c0", "c1", "c2"]
        assert [await capture.state(f"c{number}") for number in (0, 2, 3, 9)] == [
            State.SUCCESS, State.SUCCESS, State.IN_PROGRESS, State.NOT_FOUND,
        ]  # fmt: skip
    assert written(tmp_path / "out") == ["c0", "c1", "c2", "c3"]


async def test_what_waits_is_written_when_the_period_is_over(tmp_path: Path) -> None:
    async with capturing(tmp_path, rules=Rules(10, 0.05)) as capture:
        await capture.take(record(1))
        await until(lambda: capture.report.arrived == 1)


async def test_an_id_is_taken_once_also_behind_a_restart(tmp_path: Path) -> None:
    async with capturing(tmp_path) as capture:
        await capture.take(record(1))
        with pytest.raises(CaptureExistsError):
            await capture.take(record(1))
    async with capturing(tmp_path) as capture:
        with pytest.raises(CaptureExistsError):
            await capture.take(record(1))
        assert capture.report.waiting == 0
        assert await capture.state("c1") is State.SUCCESS


async def test_a_full_buffer_refuses_and_counts_and_drops_nothing(tmp_path: Path) -> None:
    doubtful = Doubtful()
    doubtful.trouble = UnreachableError("the disk is full", code="disk-full")
    async with capturing(tmp_path, doubtful, limits=CaptureLimits(5, 1 << 20)) as capture:
        for number in range(5):
            await capture.take(record(number))
        await until(lambda: capture.report.problem)
        with pytest.raises(BufferFullError, match="the disk is full"):
            await capture.take(record(6))
        assert (capture.report.waiting, capture.report.refused) == (5, 1)
        doubtful.trouble = None
        await capture.flush()
        assert doubtful.batches == [["c0", "c1", "c2"], ["c3", "c4"]]
        await capture.take(record(6))
        assert capture.report.problem == ""


async def test_what_waits_is_bounded_by_bytes_too(tmp_path: Path) -> None:
    async with capturing(tmp_path, rules=Rules(100, 60.0), limits=CaptureLimits(100, 10_000)) as capture:
        await capture.take(record(1, 6000))
        with pytest.raises(BufferFullError):
            await capture.take(record(2, 6000))
        await capture.flush()
        assert capture.report.waiting_bytes == 0
        await capture.take(record(2, 6000))


async def test_requests_at_once_are_bounded_as_well(tmp_path: Path) -> None:
    async with capturing(tmp_path, rules=Rules(100, 60.0), limits=CaptureLimits(10, 1 << 20)) as capture:
        came = await asyncio.gather(*(capture.take(record(number)) for number in range(25)), return_exceptions=True)
        assert [type(one) for one in came] == [type(None)] * 10 + [BufferFullError] * 15


async def test_requests_at_once_are_bounded_by_bytes_and_while_they_are_written(tmp_path: Path) -> None:
    async with capturing(tmp_path, rules=Rules(100, 60.0), limits=CaptureLimits(100, 10_000)) as capture:
        came = await asyncio.gather(*(capture.take(record(n, 3000)) for n in range(6)), return_exceptions=True)
        assert [type(one) for one in came].count(BufferFullError) == 3
    async with capturing(tmp_path / "second", rules=Rules(100, 60.0), limits=CaptureLimits(3, 1 << 20)) as capture:
        first = asyncio.gather(*(capture.take(record(number)) for number in range(3)))
        await until(lambda: capture.spool._requests == [] and capture.spool._writing is not None)
        with pytest.raises(BufferFullError):
            await capture.take(record(3))
        await first


async def test_what_can_never_be_written_fails_and_holds_up_nothing(tmp_path: Path) -> None:
    doubtful = Doubtful()
    doubtful.trouble = InvalidInputError("too large")
    async with capturing(tmp_path, doubtful) as capture:
        for number in range(3):
            await capture.take(record(number))
        await until(lambda: capture.report.failed == 3)
        doubtful.trouble = None
        await capture.take(record(3))
        await capture.flush()
        assert await capture.state("c0") is State.FAILURE
    assert doubtful.batches == [["c3"]]


async def test_what_was_taken_goes_on_behind_a_restart_in_the_batches_that_were_begun(tmp_path: Path) -> None:
    doubtful = Doubtful()
    doubtful.trouble = UnreachableError("no network")
    async with capturing(tmp_path, doubtful) as capture:
        for number in range(5):
            await capture.take(record(number))
        await until(lambda: capture.report.problem)
    doubtful.trouble = None
    async with capturing(tmp_path, doubtful, rules=Rules(100, 60.0)) as capture:
        assert capture.report.waiting == 5
        await capture.flush()
    assert doubtful.batches == [["c0", "c1", "c2"], ["c3", "c4"]]


async def test_a_damaged_body_fails_alone(tmp_path: Path) -> None:
    doubtful = Doubtful()
    async with capturing(tmp_path, doubtful, rules=Rules(10, 60.0)) as capture:
        for number in range(3):
            await capture.take(record(number))
        with sqlite3.connect(tmp_path / "spool" / "captures.db") as database:
            database.execute("UPDATE bodies SET body = x'ff' WHERE number = 2")
        database.close()
        await capture.flush()
        assert [await capture.state(f"c{number}") for number in range(3)] == [1, 0, 1]
    assert doubtful.batches == [["c0", "c2"]]


async def test_a_damaged_spool_is_set_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "captures.db").write_bytes(b"no database at all" * 100)
    async with capturing(tmp_path) as capture:
        await capture.take(record(1))
    assert written(tmp_path / "out") == ["c1"]
    assert list((tmp_path / "spool").glob("captures.db.broken-*"))


async def test_the_ids_of_old_captures_are_forgotten(tmp_path: Path) -> None:
    async with capturing(tmp_path, rules=Rules(1, 60.0)) as capture:
        capture.spool._remembered = 5
        for number in range(12):
            await capture.take(record(number))
        await capture.flush()
        assert await capture.state("c0") is State.NOT_FOUND
        assert await capture.state("c11") is State.SUCCESS


async def test_the_folder_holds_nothing_else_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    async with capturing(tmp_path, rules=Rules(1, 60.0)) as capture:
        await capture.take(record(1, 5000))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".jsonl", ".tensor"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


# -- the cloud ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto():
    with Moto() as one:
        yield one


def keys(moto: Moto, bucket: str) -> dict[str, bytes]:
    s3 = moto.client("s3")
    found = {
        one["Key"]: s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
        for one in s3.list_objects_v2(Bucket=bucket).get("Contents", ())
    }
    s3.close()
    return found


async def test_captures_go_to_a_bucket_and_wait_while_it_cannot_be_reached(tmp_path: Path, moto: Moto) -> None:
    bucket = Bucket("sagemaker-one", lambda: moto.client("s3"))
    async with capturing(tmp_path, bucket, rules=Rules(2, 60.0)) as capture:
        for number in range(4):
            await capture.take(record(number, 4000 if number == 1 else 8))
        await until(lambda: "NoSuchBucket" in capture.report.problem)
        assert await capture.state("c0") is State.IN_PROGRESS
        s3 = moto.client("s3")
        s3.create_bucket(Bucket="sagemaker-one")
        s3.close()
        await capture.flush()
        assert await capture.state("c3") is State.SUCCESS
    found = keys(moto, "sagemaker-one")
    assert [key.rpartition("/")[2] for key in found] == [
        "c0.jsonl", "c1-0.tensor", "c1.jsonl", "c2.jsonl", "c3.jsonl",
    ]  # fmt: skip
    assert ids([File(key, data) for key, data in found.items()]) == ["c0", "c1", "c2", "c3"]


async def test_what_is_on_the_disk_goes_to_a_bucket_as_well(tmp_path: Path, moto: Moto) -> None:
    s3 = moto.client("s3")
    s3.create_bucket(Bucket="sagemaker-two")
    s3.close()
    bucket = Bucket("sagemaker-two", lambda: moto.client("s3"))
    async with capturing(tmp_path, rules=Rules(1, 60.0), upload=True) as capture:

        async def uploaded() -> bool:
            return not await capture.spool.uploads(10)

        task = asyncio.create_task(upload(capture.spool, tmp_path / "out", bucket, 0.05))
        for number in range(3):
            await capture.take(record(number))
        await capture.flush()
        await until(uploaded)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(keys(moto, "sagemaker-two")) == 3
    assert written(tmp_path / "out") == ["c0", "c1", "c2"]
