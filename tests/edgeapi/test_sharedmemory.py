"""Shared memory, both kinds and both ways: what a handle says is held against the segment, and never trusted."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.edgeapi.sharedmemory import SegmentError, Sharers, check_posix, read_posix, read_system_v, write_posix
from tests.support.systemv import Segment

DATA = bytes(range(256)) * 16
WILD = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def segment():
    with Segment(DATA) as one:
        yield one


@pytest.fixture(scope="module")
def posix():
    path = Path("/dev/shm") / f"verge-test-{os.getpid()}"
    path.write_bytes(DATA)
    yield f"/{path.name}"
    path.unlink()


def test_a_part_of_a_segment_is_read(segment: Segment) -> None:
    assert read_system_v(segment.identity, 0, len(DATA)) == DATA
    assert read_system_v(segment.identity, 5, 10) == DATA[5:15]
    assert read_system_v(segment.identity, len(DATA), 0) == b""


@example(0, len(DATA) + 1)
@example(1, len(DATA))
@example(2**64 - 1, 1)
@example(2**63, 2**63)
@example(1, 2**64 - 1)
@given(WILD, WILD)
def test_no_handle_reads_past_a_segment(segment: Segment, offset: int, size: int) -> None:
    if offset + size <= len(DATA):
        assert read_system_v(segment.identity, offset, size) == DATA[offset : offset + size]
        return
    with pytest.raises(SegmentError, match="bytes"):
        read_system_v(segment.identity, offset, size)


@example(2**31 - 1)
@example(2**31)
@example(2**32)
@example(2**64 - 1)
@given(WILD)
def test_no_id_that_names_nothing_is_read(segment: Segment, identity: int) -> None:
    if identity < 2**20 or identity == segment.identity:  # somebody's, perhaps
        return
    with pytest.raises(SegmentError):
        read_system_v(identity, 0, 1)


def test_an_id_that_only_fits_when_it_is_cut_is_another(segment: Segment) -> None:
    with pytest.raises(SegmentError, match="no segment"):
        read_system_v(segment.identity + 2**32, 0, 1)


def test_a_segment_that_is_gone_is_refused() -> None:
    with Segment(b"1234") as gone:
        pass
    with pytest.raises(SegmentError):
        read_system_v(gone.identity, 0, 4)


@pytest.mark.parametrize("mode", [0o600, 0o420, 0o402, 0o500, 0o410, 0o401])
def test_a_segment_that_somebody_can_write_to_or_execute_is_taken_unless_that_is_not_wanted(mode: int) -> None:
    with Segment(b"1234", mode) as open_one:
        assert read_system_v(open_one.identity, 0, 4) == b"1234"
        with pytest.raises(SegmentError, match="not read-only"):
            read_system_v(open_one.identity, 0, 4, writable=False)


@pytest.mark.parametrize("mode", [0o400, 0o404, 0o444])
def test_a_segment_that_can_only_be_read_is_taken_also_where_others_can_read_it(mode: int) -> None:
    with Segment(b"5678", mode) as sealed:
        assert read_system_v(sealed.identity, 0, 4, writable=False) == b"5678"


@example("/none", 0, len(DATA) + 1)
@given(st.text(), WILD, WILD)
def test_no_posix_name_offset_or_size_reads_past_a_segment(posix: str, name: str, offset: int, size: int) -> None:
    with pytest.raises(SegmentError):
        read_posix(name if name.strip("/") != posix.strip("/") else "", offset, size)
    if offset + size <= len(DATA):
        assert read_posix(posix, offset, size) == DATA[offset : offset + size]
        return
    with pytest.raises(SegmentError):
        read_posix(posix, offset, size)
    with pytest.raises(SegmentError):
        write_posix(posix, offset, size, b"")


@pytest.mark.parametrize(
    "name", ["", "/", "..", "/..", "a/b", "/etc/passwd", "../etc/passwd", "a\0b", "x" * 300, "\udc80"]
)
def test_a_name_that_is_no_single_one_is_refused(name: str) -> None:
    with pytest.raises(SegmentError):
        read_posix(name, 0, 1)
    with pytest.raises(SegmentError):
        write_posix(name, 0, 1, b"1")


def test_links_folders_and_pipes_are_no_segments() -> None:
    base = Path("/dev/shm") / f"verge-odd-{os.getpid()}"
    link, pipe, folder = (base.with_name(f"{base.name}-{word}") for word in ("link", "pipe", "folder"))
    link.symlink_to("/etc/passwd")
    os.mkfifo(pipe)
    folder.mkdir()
    try:
        for path in (link, pipe, folder):
            with pytest.raises(SegmentError):
                read_posix(path.name, 0, 1)
            with pytest.raises(SegmentError):
                write_posix(path.name, 0, 1, b"1")
    finally:
        link.unlink()
        pipe.unlink()
        folder.rmdir()


def test_what_is_written_is_in_the_segment_and_nowhere_else(posix: str) -> None:
    write_posix(posix, 10, 4, b"abcd")
    assert read_posix(posix, 8, 8) == DATA[8:10] + b"abcd" + DATA[14:16]
    with pytest.raises(SegmentError, match="4 bytes for 5"):
        write_posix(posix, 10, 4, b"12345")
    with pytest.raises(SegmentError):
        write_posix(posix, len(DATA) - 2, 4, b"1234")
    write_posix(posix, 10, 4, DATA[10:14])
    assert read_posix(posix, 0, len(DATA)) == DATA


# -- whose it is -------------------------------------------------------------------------------------------------------


def test_a_segment_of_nobody_who_may_connect_is_not_read_for_those_who_may(segment: Segment, posix: str) -> None:
    """The agent can open it, and a client that names it may not."""
    others = Sharers(group=2**31 - 2, members=frozenset({2**31 - 3}))
    (Path("/dev/shm") / posix.strip("/")).chmod(0o600)
    for attempt in (
        lambda: read_system_v(segment.identity, 0, 4, sharers=others),
        lambda: read_posix(posix, 0, 4, others),
        lambda: check_posix(posix, 0, 4, others),
        lambda: write_posix(posix, 0, 4, b"1234", others),
    ):
        with pytest.raises(SegmentError, match="nobody who may connect"):
            attempt()
    ours = Sharers(group=2**31 - 2, members=frozenset({os.geteuid()}))
    assert read_system_v(segment.identity, 0, 4, sharers=ours) == read_posix(posix, 0, 4, ours) == DATA[:4]


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "reads", "writes"),
    [(7, 1, 0o600, True, True), (8, 1, 0o600, False, False), (8, 5, 0o640, True, False), (8, 5, 0o660, True, True),
     (8, 1, 0o640, False, False), (8, 1, 0o644, True, False), (8, 1, 0o666, True, True)],
)  # fmt: skip
def test_a_segment_is_a_members_or_open_to_the_group(uid: int, gid: int, mode: int, reads: bool, writes: bool) -> None:
    sharers = Sharers(group=5, members=frozenset({7}))
    assert (sharers.may(uid, gid, mode, 4), sharers.may(uid, gid, mode, 2)) == (reads, writes)


def test_where_everybody_may_connect_the_agents_own_segments_stay_its_own() -> None:
    everybody = Sharers.of("", everybody=True)
    assert not everybody.may(os.geteuid(), 0, 0o600, 4)
    assert everybody.may(os.geteuid() + 1, 0, 0o600, 4)


def test_the_members_of_a_group_are_those_whose_own_it_is_and_those_it_lists() -> None:
    mine = grp.getgrgid(os.getegid())
    assert os.geteuid() in Sharers.of(mine.gr_name, everybody=False).members
    assert Sharers.of("no-such-group", everybody=False).members == frozenset()
