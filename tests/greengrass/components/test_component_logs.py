"""A component's log: whole lines in, bounded files out."""

from __future__ import annotations

import asyncio
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.components.logs import LINE_BYTES, ComponentLog, pump

CONTEXT = {"scriptName": "services.a.lifecycle.Run.script"}


def test_a_line_of_text_says_when_what_and_where(tmp_path):
    log = ComponentLog(tmp_path, "a")
    log.write("INFO", "stdout", "hello", CONTEXT)
    log.close()
    pattern = (
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[INFO\] a: stdout\. hello "
        r"\{serviceName=a, scriptName=services\.a\.lifecycle\.Run\.script\}\n"
    )
    assert re.fullmatch(pattern, (tmp_path / "a.log").read_text())


def test_a_full_file_moves_on_and_the_oldest_goes(tmp_path):
    log = ComponentLog(tmp_path, "a", file_bytes=1000, total_bytes=3000)
    for number in range(100):
        log.write("INFO", "stdout", f"line {number}", {})
    log.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["a.log", "a.log.1", "a.log.2"]
    assert all(file.stat().st_size <= 1000 for file in files)
    text = "".join(file.read_text() for file in reversed(files))
    numbers = [int(number) for number in re.findall(r"line (\d+)", text)]
    assert numbers == list(range(numbers[0], 100))


def test_an_agent_that_starts_again_goes_on_with_the_same_file(tmp_path):
    for _ in range(2):
        log = ComponentLog(tmp_path, "a")
        log.write("INFO", "stdout", "hello", {})
        log.close()
    assert (tmp_path / "a.log").read_text().count("hello") == 2


def test_lines_the_disk_does_not_take_are_counted_and_the_count_is_written_later(tmp_path):
    folder = tmp_path / "logs"
    folder.touch()
    log = ComponentLog(folder, "a")
    log.write("INFO", "stdout", "one", {})
    log.write("INFO", "stdout", "two", {})
    assert log.lost == 2
    folder.unlink()
    log.write("INFO", "stdout", "three", {})
    log.close()
    text = (folder / "a.log").read_text()
    assert "2 lines were lost" in text
    assert "three" in text
    assert log.lost == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 40))
async def test_lines_are_the_same_however_they_arrive(lines, size):
    lines = [line.replace(b"\n", b"").replace(b"\r", b"") for line in lines]
    data = b"".join(line + b"\n" for line in lines)
    reader, taken = asyncio.StreamReader(), []
    for start in range(0, len(data), size):
        reader.feed_data(data[start : start + size])
    reader.feed_eof()
    await pump(reader, taken.append)
    assert taken == [line.decode(errors="replace") for line in lines]


@pytest.mark.parametrize("length", [LINE_BYTES - 1, LINE_BYTES, LINE_BYTES + 1, 5 * LINE_BYTES + 7])
async def test_a_long_line_is_broken_into_pieces_and_none_of_it_is_lost(length):
    reader, taken = asyncio.StreamReader(), []
    reader.feed_data(b"x" * length)
    reader.feed_eof()
    await pump(reader, taken.append)
    assert "".join(taken) == "x" * length
    assert max(map(len, taken)) <= LINE_BYTES


async def test_a_pipe_whose_writer_is_gone_ends_the_pump_with_the_last_words():
    ours, theirs = os.pipe()
    reader, taken = asyncio.StreamReader(), []
    loop = asyncio.get_running_loop()
    file = os.fdopen(ours, "rb", buffering=0)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    os.write(theirs, b"one\r\ntwo")
    os.close(theirs)
    await pump(reader, taken.append)
    assert taken == ["one", "two"]
