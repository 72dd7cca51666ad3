"""Zip → folder, with archives made to escape, clash, explode and deceive."""

from __future__ import annotations

import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.unpack import UnpackStoppedError, measure, unpack
from agent.greengrass.artifacts.zipplan import ZipLimits
from tests.greengrass.artifacts import zips


def refusal_of(archive: Path, **facts) -> str:
    """The sentence of the refusal, after which nothing may be left."""
    into = archive.parent / "into"
    with pytest.raises(ArtifactError) as refusal:
        unpack(archive, into, **facts)
    assert refusal.value.code == "IO_UNZIP_ERROR"
    assert refusal.value.error_type == "DEVICE_ERROR"
    assert not into.exists()
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    return refusal.value.message


def test_an_archive_unpacks_with_the_permission_s_mode_on_every_file(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zips.packed([("model.tflite", b"weights" * 1000), ("data/", b""), ("data/labels.txt", b"cat")]))
    assert measure(archive) == 7003
    unpack(archive, tmp_path / "out" / "a", mode=0o554)
    into = tmp_path / "out" / "a"
    assert (into / "model.tflite").read_bytes() == b"weights" * 1000
    assert (into / "data" / "labels.txt").read_bytes() == b"cat"
    assert stat.S_IMODE((into / "data" / "labels.txt").stat().st_mode) == 0o554
    assert stat.S_IMODE((into / "data").stat().st_mode) == 0o755
    assert stat.S_IMODE(into.stat().st_mode) == 0o755
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_an_older_folder_is_replaced_and_open_files_stay_readable(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zips.packed([("new", b"new")]))
    into = tmp_path / "a"
    into.mkdir()
    (into / "old").write_bytes(b"old")
    with (into / "old").open("rb") as held:
        unpack(archive, into)
        assert held.read() == b"old"
    assert [path.name for path in into.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.zip"]


def test_what_a_killed_unpacking_left_is_cleared_away(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zips.packed([("new", b"new")]))
    (tmp_path / ".a.unpacking" / "half").mkdir(parents=True)
    unpack(archive, tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.zip"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["../evil"], "leads out"),
        (["a/../../evil"], "leads out"),
        (["a/.."], "leads out"),
        (["/etc/passwd"], "absolute"),
        (["//host/share"], "absolute"),
        (["C:/evil"], "drive"),
        (["c:evil"], "drive"),
        (["..\\evil"], "backslash"),
        (["a\nb"], "control character"),
        (["a\x7fb"], "control character"),
        (["x" * 256], "too long"),
        (["/".join(["long"] * 300)], "too long"),
        (["."], "no name"),
        (["a", "a"], "taken"),
        (["a", "./a"], "taken"),
        (["a", "A"], "taken"),
        (["stra\u00dfe", "STRASSE"], "taken"),
        (["caf\u00e9", "cafe\u0301"], "taken"),
        (["a", "a/b"], "clash"),
        (["a/b", "a"], "taken"),
        (["Dir/x", "dir/y"], "clash"),
    ],
)
def test_a_name_that_could_escape_or_clash_is_refused(tmp_path, names, sentence):
    archive = zips.write(tmp_path / "a.zip", [(name, b"evil") for name in names])
    assert sentence in refusal_of(archive)


def test_a_name_with_a_nul_is_refused(tmp_path):
    archive = zips.write(tmp_path / "a.zip", [("safeXevil", b"evil")])
    archive.write_bytes(archive.read_bytes().replace(b"safeX", b"safe\0"))
    assert "control character" in refusal_of(archive)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_links_devices_and_pipes_are_refused(tmp_path, kind):
    archive = zips.write(tmp_path / "a.zip", [("link", b"/etc/passwd")], external_attr=(kind | 0o777) << 16)
    assert "neither a plain file nor a folder" in refusal_of(archive)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("flag_bits", 1, "encrypted"),
        ("compress_type", 14, "other than deflate"),
        ("compress_type", 0, "another size than its own"),
        ("file_size", 3, "damaged"),
        ("file_size", 50_000, "another number of bytes"),
        ("compress_size", 9, "damaged"),
        ("compress_size", 1_000_000, "ends after the archive"),
        ("header_offset", 7, "damaged"),
    ],
)
def test_an_archive_whose_directory_lies_is_refused(tmp_path, field, value, sentence):
    archive = zips.write(tmp_path / "a.zip", [("a", os.urandom(300))])
    assert sentence in refusal_of(zips.edit(archive, field=field, value=value))


def test_an_entry_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path):
    archive = zips.write(tmp_path / "a.zip", [("zeros", bytes(4_000_000))])
    assert "far more" in refusal_of(archive)


def test_many_small_bombs_are_refused_by_their_sum(tmp_path):
    archive = zips.write(tmp_path / "a.zip", [(f"zeros{number}", bytes(900_000)) for number in range(5)])
    assert "more than 200 times" in refusal_of(archive)


def test_a_bomb_that_declares_little_stops_at_what_it_declares(tmp_path):
    archive = zips.write(tmp_path / "a.zip", [("zeros", bytes(50_000_000))])
    assert "damaged" in refusal_of(zips.edit(archive, field="file_size", value=1000))


def test_total_size_and_number_of_entries_are_bounded(tmp_path):
    archive = zips.write(tmp_path / "a.zip", [(f"{number}", os.urandom(100)) for number in range(10)])
    assert "the limit is 999" in refusal_of(archive, limits=ZipLimits(max_bytes=999))
    assert "10 entries" in refusal_of(archive, limits=ZipLimits(max_entries=9))
    assert "its directory is larger" in refusal_of(archive, limits=ZipLimits(max_directory_bytes=400))


def test_entries_that_share_bytes_are_refused(tmp_path):
    archive = zips.write(tmp_path / "a.zip", [("a", os.urandom(300)), ("b", os.urandom(300))])
    assert "shares bytes" in refusal_of(zips.edit(archive, field="header_offset", value=0, entry=1))
    assert "shares bytes" in refusal_of(zips.edit(archive, field="header_offset", value=40, entry=1))


def test_a_quoted_bomb_is_refused(tmp_path):
    """Each entry's data is a stored block that quotes the next header: 3 names, one kernel."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = kernel.compress(b"x" * 10_000) + kernel.flush()
    archive = tmp_path / "a.zip"
    body, entries = _quoted([b"a", b"b", b"c"], data, zlib.crc32(b"x" * 10_000), 10_000)
    archive.write_bytes(body + entries)
    with zipfile.ZipFile(archive) as opened:
        assert sum(info.file_size for info in opened.infolist()) > 30_000
    assert "shares bytes" in refusal_of(archive)


def _quoted(names, data, crc, size):
    """A minimal overlapping archive, built from its end."""
    body, table, known = data, [], b"x" * size
    headers = []
    for name in reversed(names):
        packed = body
        header = (
            struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0x21, crc, len(packed), len(known), len(name), 0) + name
        )
        headers.append((name, crc, len(packed), len(known)))
        local = header
        quote = struct.pack("<BHH", 0, len(local), len(local) ^ 0xFFFF) + local
        table.append(len(local + packed))
        known = local + known
        crc = zlib.crc32(known)
        body = quote + packed
    whole = body[5:]
    entries = b""
    for (name, sum_, packed_size, known_size), from_end in zip(headers, table, strict=True):
        entries += (
            struct.pack(
                "<4s6H3I5H2I",
                b"PK\1\2",
                20,
                20,
                0,
                8,
                0,
                0x21,
                sum_,
                packed_size,
                known_size,
                len(name),
                0,
                0,
                0,
                0,
                0,
                len(whole) - from_end,
            )
            + name
        )
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(names), len(names), len(entries), len(whole), 0)
    return whole, entries + end


def test_what_is_no_archive_is_refused(tmp_path):
    archive = tmp_path / "a.zip"
    for data in (b"", b"PK", b"not a zip at all", os.urandom(10_000)):
        archive.write_bytes(data)
        assert "damaged or no zip" in refusal_of(archive)


def test_an_unpacking_that_is_stopped_leaves_nothing(tmp_path):
    archive = zips.write(tmp_path / "a.zip", [("a", b"x")])
    with pytest.raises(UnpackStoppedError):
        unpack(archive, tmp_path / "into", stopped=lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_disk_without_room_is_told_before_the_first_byte(tmp_path):
    archive = zips.write(tmp_path / "a.zip", [("a", b"x")])
    with pytest.raises(ArtifactError) as refusal:
        unpack(archive, tmp_path / "into", reserve_bytes=2**62)
    assert refusal.value.code == "DISK_SPACE_CRITICAL"
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


PIECES = st.sampled_from(
    [
        "..",
        ".",
        "",
        "/",
        "//",
        "\\",
        "C:",
        "a",
        "A",
        "b",
        "\0",
        "\n",
        "etc/passwd",
        "~",
        "a/",
        "\u00e9",
        "e\u0301",
        " ",
        "CON",
    ]
)
NAMES = st.one_of(
    st.lists(PIECES, min_size=1, max_size=6).map("".join),
    st.lists(PIECES, min_size=1, max_size=6).map("/".join),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
)


def everything_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@settings(max_examples=200, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=5))
@example(names=["../../../../tmp/evil"])
@example(names=["a/", "a"])
def test_no_name_escapes(tmp_path_factory, names):
    room = tmp_path_factory.mktemp("room")
    archive = zips.write(room / "a.zip", [(name, b"" if name.endswith("/") else b"payload") for name in names])
    (room / "deep" / "er").mkdir(parents=True)
    into = room / "deep" / "er" / "into"
    try:
        unpack(archive, into)
    except ArtifactError as refusal:
        assert refusal.code == "IO_UNZIP_ERROR"  # noqa: PT017 either outcome is right
        assert everything_under(room) == {"a.zip", "deep", "deep/er"}
        return
    assert {place for place in everything_under(room) if not place.startswith("deep/er/into/")} == {
        "a.zip",
        "deep",
        "deep/er",
        "deep/er/into",
    }
    files = [path for path in into.rglob("*") if path.is_file()]
    assert len(files) == sum(not name.endswith("/") for name in names)
    assert not any(path.is_symlink() for path in into.rglob("*"))
    folded = [unicodedata.normalize("NFC", str(path.relative_to(into))).casefold() for path in into.rglob("*")]
    assert len(folded) == len(set(folded))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_raises_our_error_only(tmp_path_factory, data):
    room = tmp_path_factory.mktemp("room")
    raw = bytearray(zips.packed([("a", b"abc" * 50), ("d/b", bytes(100)), ("d/", b"")]))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    archive = room / "a.zip"
    archive.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        unpack(archive, room / "into")
    except ArtifactError as refusal:
        assert refusal.code == "IO_UNZIP_ERROR"  # noqa: PT017 either outcome is right
        assert everything_under(room) == {"a.zip"}
