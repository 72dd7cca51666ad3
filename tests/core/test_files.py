from __future__ import annotations

import random
import stat
from pathlib import Path

import pytest

from agent.files import DamagedFileError, read_checked, write_checked


@pytest.mark.parametrize("data", [b"", b"one", b"two\nlines\n", bytes(range(256)) * 100])
def test_a_checked_file_gives_back_what_was_written_and_is_for_its_owner(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "record"
    write_checked(path, b"what was there before")
    write_checked(path, data)
    assert read_checked(path) == data
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_no_flipped_bit_and_no_shorter_or_longer_file_passes_for_whole(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_checked(path, b'{"some": "content"}' * 20)
    whole = path.read_bytes()
    chance = random.Random(1)
    damaged = [whole[:length] for length in range(len(whole))] + [whole + b"\n", b"\0" * len(whole)]
    for _ in range(500):
        place = chance.randrange(len(whole))
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DamagedFileError):
            read_checked(path)


def test_a_file_that_is_not_there_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_checked(tmp_path / "record")
