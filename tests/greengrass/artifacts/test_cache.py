"""Every artifact once, the least recently used evicted first, and never one in use."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError, RottenArtifactError
from agent.greengrass.artifacts.partial import partial_of


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def put(cache: Cache, data: bytes, *, used: int = 0) -> Digest:
    """An entry that was last used ``used`` seconds after the epoch."""
    arrival = cache.unnamed(repr(data))
    arrival.parent.mkdir(parents=True, exist_ok=True)
    arrival.write_bytes(data)
    entry = cache.arrived(arrival, digest_of(data))
    os.utime(entry, (used, used))
    return digest_of(data)


def test_an_entry_is_a_file_named_by_its_digest(tmp_path):
    cache = Cache(tmp_path)
    digest = put(cache, b"model")
    assert cache.find(digest) == tmp_path / "sha256" / digest.hex[:2] / digest.hex[2:]
    assert Cache(tmp_path).find(digest).read_bytes() == b"model"
    assert cache.find(digest_of(b"other")) is None


def test_rotten_bytes_are_found_by_the_next_process_and_removed(tmp_path, caplog):
    digest = put(Cache(tmp_path), b"model")
    Cache(tmp_path).path(digest).write_bytes(b"m0del")
    assert Cache(tmp_path).find(digest) is None
    assert not Cache(tmp_path).path(digest).exists()
    assert "rotten" in caplog.text


def test_what_is_placed_is_whole_with_its_mode_and_nothing_lies_beside(tmp_path):
    cache = Cache(tmp_path / "cache")
    digest = put(cache, b"model")
    for version, mode in (("1", 0o444), ("2", 0o555), ("2", 0o555)):
        cache.materialise(digest, tmp_path / version / "model", mode)
        assert stat.S_IMODE((tmp_path / version / "model").stat().st_mode) == mode
        assert [path.name for path in (tmp_path / version).iterdir()] == ["model"]
    assert {(tmp_path / version / "model").read_bytes() for version in "12"} == {b"model"}


def test_what_a_component_writes_into_its_file_reaches_neither_the_cache_nor_another_version(tmp_path):
    cache = Cache(tmp_path / "cache")
    digest = put(cache, b"model")
    for version in "12":
        cache.materialise(digest, tmp_path / version / "model", 0o444)
    (tmp_path / "1" / "model").chmod(0o600)
    (tmp_path / "1" / "model").write_bytes(b"m0del")
    assert (tmp_path / "2" / "model").read_bytes() == b"model"
    assert cache.find(digest).read_bytes() == b"model"


def test_bytes_that_rot_while_the_agent_runs_are_never_placed(tmp_path):
    cache = Cache(tmp_path / "cache")
    digest = put(cache, b"model")
    assert cache.find(digest)
    cache.path(digest).write_bytes(b"m0del")
    with pytest.raises(RottenArtifactError):
        cache.materialise(digest, tmp_path / "1" / "model", 0o444)
    assert list((tmp_path / "1").iterdir()) == []
    assert cache.find(digest) is None


def test_the_least_recently_used_entry_is_evicted_first(tmp_path):
    cache = Cache(tmp_path, max_bytes=30)
    older, newer, oldest = put(cache, b"a" * 10, used=2), put(cache, b"b" * 10, used=3), put(cache, b"c" * 10, used=1)
    cache.make_room(10)
    assert [cache.path(digest).exists() for digest in (oldest, older, newer)] == [False, True, True]
    cache.find(older)
    cache.make_room(20)
    assert [cache.path(digest).exists() for digest in (older, newer)] == [True, False]


def test_what_is_pinned_is_never_evicted(tmp_path):
    cache = Cache(tmp_path / "cache", max_bytes=20)
    pinned, idle = put(cache, b"a" * 10), put(cache, b"c" * 10, used=9)
    with cache.pinned(cache.path(pinned)):
        with pytest.raises(ArtifactError) as refusal:
            cache.make_room(11)
        assert refusal.value.code == "DISK_SPACE_CRITICAL"
        assert cache.path(idle).exists()  # nothing is evicted in vain
        cache.make_room(10)
        assert [cache.path(digest).exists() for digest in (pinned, idle)] == [True, False]
    cache.make_room(20)
    assert not cache.path(pinned).exists()


def test_a_download_under_way_is_kept_while_pinned_and_evicted_when_abandoned(tmp_path):
    cache = Cache(tmp_path, max_bytes=10)
    target = cache.path(digest_of(b"x"))
    partial_of(target).parent.mkdir(parents=True)
    partial_of(target).write_bytes(b"123456")
    with cache.pinned(target), pytest.raises(ArtifactError):
        cache.make_room(5)
    cache.make_room(5)
    assert not partial_of(target).exists()


def test_the_disk_s_reserve_counts_as_room_that_is_missing(tmp_path):
    cache = Cache(tmp_path, reserve_bytes=2**62)
    digest = put(cache, b"model")
    with pytest.raises(ArtifactError, match="usable"):
        cache.make_room(1)
    assert cache.path(digest).exists()


class CacheLaws(RuleBasedStateMachine):
    """However it is used: entries hold their digest's bytes, pins hold, and the limit does where it can."""

    LIMIT = 100

    def __init__(self):
        super().__init__()
        import tempfile  # noqa: PLC0415 a state machine has no fixtures
        from pathlib import Path  # noqa: PLC0415

        self.folder = tempfile.TemporaryDirectory()
        self.cache = Cache(Path(self.folder.name), max_bytes=self.LIMIT, reserve_bytes=0)
        self.pins = {}
        self.clock = 0

    def teardown(self):
        self.folder.cleanup()

    @rule(size=st.integers(1, 60), letter=st.sampled_from("abcdef"))
    def add(self, size, letter):
        data = letter.encode() * size
        try:
            self.cache.make_room(size)
        except ArtifactError:
            assert self.used(self.pins) + size > self.LIMIT
            return
        self.clock += 1
        put(self.cache, data, used=self.clock)

    @rule(choice=st.randoms(use_true_random=False))
    def pin(self, choice):
        entries = [path for path in self.entries() if path not in self.pins]
        if entries:
            path = choice.choice(sorted(entries))
            held = self.cache.pinned(path)
            held.__enter__()
            self.pins[path] = held

    @rule()
    def unpin(self):
        if self.pins:
            self.pins.popitem()[1].__exit__(None, None, None)

    def entries(self):
        return list(self.cache.folder.glob("sha256/*/*"))

    def used(self, paths):
        return sum(path.stat().st_size for path in paths)

    @invariant()
    def what_is_pinned_is_there(self):
        assert all(path.exists() for path in self.pins)

    @invariant()
    def the_limit_holds(self):
        assert self.used(self.entries()) <= self.LIMIT

    @invariant()
    def every_entry_is_what_its_name_says(self):
        for path in self.entries():
            assert Digest.of(path).hex == path.parent.name + path.name


CacheLaws.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestCacheLaws = CacheLaws.TestCase
