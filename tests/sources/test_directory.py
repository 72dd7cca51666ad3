"""Frames from a real folder."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.config.streams import DirectoryOptions
from agent.sources import folder as disk
from agent.sources.base import SourceState
from agent.sources.directory import DirectorySource
from tests.sources.receiver import Receiver
from tests.support.until import until


@asynccontextmanager
async def at_beats(folder: Path, *, max_bytes: int = 10_000, **settings: Any) -> AsyncIterator[Receiver]:
    """A folder whose files are read when the test beats."""
    options = DirectoryOptions(path=str(folder), **{"settle_s": 0.0} | settings)
    source = DirectorySource(options, folder, watched=False, max_bytes=max_bytes)
    receiver = Receiver(source)
    receiver.open()
    yield receiver
    source.close()
    await source.wait_closed()


@asynccontextmanager
async def watched(folder: Path, *, eager: bool = True, **settings: Any) -> AsyncIterator[Receiver]:
    options = DirectoryOptions(path=str(folder), **settings)
    receiver = Receiver(DirectorySource(options, folder, watched=True, max_bytes=10_000), eager=eager)
    receiver.open()
    await until(lambda: receiver.source.status.state is not SourceState.STARTING)
    yield receiver
    receiver.source.close()
    await receiver.source.wait_closed()


async def beat(receiver: Receiver) -> None:
    """One beat, waited for until it came to something."""
    source = receiver.source
    assert source.beat()
    await until(lambda: not source._asked.is_set() and not source._busy)


def put(folder: Path, name: str, data: bytes = b"picture", age_s: float = 60.0) -> None:
    """Put a whole file there at once, as old as it is to be."""
    part, then = folder.parent / f"{name}.part", time.time() - age_s
    part.write_bytes(data)
    os.utime(part, (then, then))
    part.replace(folder / name)


async def test_a_file_is_read_anew_at_every_beat(tmp_path) -> None:
    put(tmp_path, "cat.jpg", b"one")
    async with at_beats(tmp_path, name="cat.jpg") as receiver:
        await beat(receiver)
        await beat(receiver)
        put(tmp_path, "cat.jpg", b"two", age_s=60.0)
        await beat(receiver)
    assert receiver.payloads == [b"one", b"one", b"two"]
    assert set(receiver.names) == {"cat.jpg"}
    assert receiver.given[0].captured_at == pytest.approx((tmp_path / "cat.jpg").stat().st_mtime, abs=5)


async def test_of_several_files_the_newest_is_read_or_one_after_the_other(tmp_path) -> None:
    for age, name in enumerate(("c.png", "a.JPG", "b.webp")):
        put(tmp_path, name, name.encode(), 10.0 + age)
    put(tmp_path, "notes.txt")
    async with at_beats(tmp_path) as newest, at_beats(tmp_path, pick="next") as following:
        for _ in range(4):
            await beat(newest)
            await beat(following)
    assert newest.names == ["c.png"] * 4
    assert following.names == ["a.JPG", "b.webp", "c.png", "a.JPG"]


async def test_a_missing_file_is_a_status_said_once_and_the_first_beat_after_it_came_reads_it(tmp_path, caplog) -> None:
    async with at_beats(tmp_path, name="cat.jpg") as receiver:
        for _ in range(3):
            await beat(receiver)
        status = receiver.source.status
        assert (status.state, receiver.given) == (SourceState.WAITING, [])
        assert "cat.jpg: No such file" in status.reason
        put(tmp_path, "cat.jpg")
        await beat(receiver)
        assert receiver.source.status.state is SourceState.RUNNING
    assert receiver.payloads == [b"picture"]
    assert caplog.text.count("No such file") == 1


async def test_a_missing_folder_is_waited_for(tmp_path) -> None:
    missing = tmp_path / "later"
    async with at_beats(missing) as receiver, watched(missing, existing=True, settle_s=0.0) as watcher:
        await beat(receiver)
        assert receiver.source.status.state is watcher.source.status.state is SourceState.WAITING
        missing.mkdir()
        await beat(receiver)
        assert "holds no picture" in receiver.source.status.reason
        put(missing, "a.png")
        await watcher.has(1)
        await beat(receiver)
    assert receiver.names == watcher.names == ["a.png"]


async def test_a_beat_that_finds_the_last_one_at_work_is_missed_and_not_made_up_for(tmp_path) -> None:
    put(tmp_path, "cat.jpg", age_s=0.0)
    async with at_beats(tmp_path, name="cat.jpg", settle_s=0.3) as receiver:
        assert receiver.source.beat()
        await until(lambda: receiver.source._busy)
        assert not receiver.source.beat()
        await receiver.has(1)
        await until(lambda: not receiver.source._busy)
        assert not receiver.source._asked.is_set()
    assert len(receiver.given) == 1


async def test_each_new_and_each_changed_file_is_one_frame(tmp_path) -> None:
    put(tmp_path, "old.jpg")
    async with watched(tmp_path, settle_s=0.0) as receiver:
        put(tmp_path, "b.jpg", b"b", age_s=2)
        put(tmp_path, "a.jpg", b"a", age_s=1)
        await receiver.has(2)
        put(tmp_path, "old.jpg", b"changed", age_s=0)
        await receiver.has(3)
        put(tmp_path, "a.jpg", b"again", age_s=0)
        await receiver.has(4)
        await asyncio.sleep(0.3)
    assert sorted(receiver.payloads[:2]) == [b"a", b"b"]
    assert receiver.payloads[2:] == [b"changed", b"again"]


async def test_what_was_there_when_watching_began_is_a_frame_only_where_that_is_asked_for(tmp_path) -> None:
    for number in range(3):
        put(tmp_path, f"{number}.jpg", age_s=10 - number)
    async with watched(tmp_path, existing=True, settle_s=0.0) as all_of_them, watched(tmp_path) as only_news:
        await all_of_them.has(3)
        await asyncio.sleep(0.3)
    assert all_of_them.names == ["0.jpg", "1.jpg", "2.jpg"]
    assert only_news.names == []


async def test_a_file_that_is_being_written_is_not_taken_before_it_is_whole(tmp_path) -> None:
    async with watched(tmp_path, settle_s=0.5) as receiver:
        with (tmp_path / "slow.jpg").open("wb", buffering=0) as file:
            for _ in range(12):
                file.write(b"0123456789")
                await asyncio.sleep(0.05)
        await receiver.has(1)
        os.rename(tmp_path / "slow.jpg", tmp_path / "moved.jpg")
        await receiver.has(2)
    assert receiver.payloads == [b"0123456789" * 12] * 2


async def test_at_a_beat_too_a_file_that_is_being_written_is_waited_for(tmp_path) -> None:
    async with at_beats(tmp_path, name="slow.jpg", settle_s=0.5) as receiver:
        with (tmp_path / "slow.jpg").open("wb", buffering=0) as file:
            file.write(b"half")
            assert receiver.source.beat()
            await asyncio.sleep(0.1)
            file.write(b" and half")
        await receiver.has(1)
    assert receiver.payloads == [b"half and half"]


async def test_files_are_read_only_as_fast_as_the_stream_asks_and_none_is_lost(tmp_path) -> None:
    async with watched(tmp_path, eager=False, settle_s=0.0) as receiver:
        for number in range(5):
            put(tmp_path, f"{number}.jpg", age_s=5 - number)
        await asyncio.sleep(0.4)
        assert receiver.given == []
        for number in range(5):
            receiver.source.want()
            await receiver.has(number + 1)
    assert receiver.names == [f"{number}.jpg" for number in range(5)]


async def test_a_file_past_the_limit_is_not_read_and_counts_as_a_failed_frame(tmp_path) -> None:
    put(tmp_path, "big.bmp", bytes(101))
    async with at_beats(tmp_path, max_bytes=100) as receiver:
        await beat(receiver)
    (given,) = receiver.given
    assert given.refused is not None
    assert (given.message.payload, given.refused.code) == (b"", "too-many-bytes")


async def test_a_link_is_followed_within_the_folder_and_not_out_of_it(tmp_path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "2024").mkdir(parents=True)
    outside.mkdir()
    put(inside / "2024", "new.jpg", b"inside")
    put(outside, "secret.jpg", b"secret")
    (inside / "latest.jpg").symlink_to("2024/new.jpg")
    (inside / "other.jpg").symlink_to(outside / "secret.jpg")
    (inside / "nothing.jpg").symlink_to("gone.jpg")
    (tmp_path / "way").symlink_to(inside)
    async with at_beats(tmp_path / "way", pick="next") as receiver:
        await beat(receiver)
        await beat(receiver)
        await beat(receiver)
    assert receiver.payloads == [b"inside", b"", b"inside"]
    refused = receiver.given[1].refused
    assert refused is not None
    assert refused.code == "file-outside"


async def test_a_pipe_blocks_nothing(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    async with at_beats(tmp_path, name="pipe.jpg") as receiver, at_beats(tmp_path) as other:
        await beat(receiver)
        await beat(other)
        assert other.source.status.reason.endswith("holds no picture that fits '*'")
    (given,) = receiver.given
    assert given.refused is not None
    assert given.refused.code == "not-a-file"


async def test_a_crowded_folder_is_looked_at_up_to_a_bound_and_says_so(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.setattr(disk, "MAX_ENTRIES", 5)
    for number in range(9):
        put(tmp_path, f"{number}.jpg")
    async with at_beats(tmp_path) as receiver:
        await beat(receiver)
        await beat(receiver)
    assert len(receiver.given) == 2
    assert caplog.text.count("are looked at") == 1


async def test_a_source_that_is_opened_again_goes_on_where_it_stopped(tmp_path) -> None:
    async with watched(tmp_path, settle_s=0.0) as receiver:
        put(tmp_path, "a.jpg")
        await receiver.has(1)
        receiver.source.close()
        put(tmp_path, "b.jpg")
        await receiver.source.wait_closed()
        assert receiver.source.status.state is SourceState.STOPPED
        receiver.open()
        await receiver.has(2)
    assert receiver.names == ["a.jpg", "b.jpg"]


async def test_a_beat_that_found_nothing_is_made_good_when_there_is_a_picture(tmp_path) -> None:
    async with at_beats(tmp_path, name="cat.jpg") as receiver, asyncio.timeout(20):
        await beat(receiver)
        assert receiver.source.status.state == "waiting"
        (tmp_path / "cat.jpg").write_bytes(b"late")
        await until(lambda: receiver.source.status.delivered == 1)
