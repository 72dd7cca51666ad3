"""What every store promises, with a store that is made for each test."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import signal
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.deployments import ArtifactLimits, RetryPolicy, StoreOptions
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.partial import partial_of
from agent.greengrass.artifacts.store import Content, Store

QUICK = RetryPolicy(base_s=0.0, cap_s=0.0, give_up_after_s=5)


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


class Scripted(Store):
    """Gives ``data`` in pieces; ``breaks`` are exceptions to raise after so many bytes, one per opening."""

    def __init__(self, data, *, pieces=(), breaks=(), version="1", resumes=True, floor=1):
        super().__init__(StoreOptions(min_bytes_per_s=floor))
        self.data, self.pieces, self.version, self.resumes = data, list(pieces), version, resumes
        self.breaks = list(breaks)
        self.offsets = []

    @asynccontextmanager
    async def _open(self, uri, offset, version):
        self.offsets.append(offset)
        start = offset if self.resumes and version in {None, self.version} else 0
        yield Content(self._chunks(start), start, len(self.data), self.version)

    async def _chunks(self, start):
        after, error = self.breaks.pop(0) if self.breaks else (None, None)
        rest = self.data[start:]
        for size in [*self.pieces, len(rest)]:
            piece, rest = rest[:size], rest[size:]
            if after is not None and start + len(piece) > after:
                yield piece[: max(0, after - start)]
                raise error
            start += len(piece)
            if piece:
                yield piece


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=300), pieces=st.lists(st.integers(1, 50), max_size=10), cut=st.integers(0, 300))
def test_any_chunking_and_any_cut_gives_the_same_digest(tmp_path_factory, data, pieces, cut):
    target = tmp_path_factory.mktemp("any") / "artifact"
    store = Scripted(data, pieces=pieces, breaks=[(cut, ConnectionResetError())])
    assert asyncio.run(store.fetch("x://y", target, retry=QUICK)) == digest_of(data)
    assert target.read_bytes() == data
    assert not partial_of(target).exists()


async def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path):
    store = Scripted(b"abcdefgh", breaks=[(3, ConnectionResetError()), (5, ArtifactUnreachableError("gone"))])
    await store.fetch("x://y", tmp_path / "a", retry=QUICK)
    assert store.offsets == [0, 3, 5]
    assert (tmp_path / "a").read_bytes() == b"abcdefgh"


async def test_without_a_digest_or_a_version_an_interrupted_download_begins_anew(tmp_path):
    store = Scripted(b"abcdefgh", breaks=[(3, ConnectionResetError())], version=None)
    await store.fetch("x://y", tmp_path / "a", retry=QUICK)
    assert store.offsets == [0, 0]
    assert (tmp_path / "a").read_bytes() == b"abcdefgh"


async def test_a_source_that_only_goes_on_with_other_content_is_opened_anew(tmp_path):
    class Stubborn(Scripted):
        @asynccontextmanager
        async def _open(self, uri, offset, version):
            self.offsets.append(offset)
            if len(self.offsets) == 2:
                self.data, self.version = b"ABCDEFGH", "2"
            yield Content(self._chunks(offset), offset, len(self.data), self.version)

    store = Stubborn(b"abcdefgh", breaks=[(3, ConnectionResetError())])
    await store.fetch("x://y", tmp_path / "a", retry=QUICK)
    assert store.offsets == [0, 3, 0]
    assert (tmp_path / "a").read_bytes() == b"ABCDEFGH"


async def test_a_partial_file_of_another_process_is_taken_up_when_the_digest_is_known(tmp_path):
    data = b"abcdefgh"
    partial_of(tmp_path / "a").write_bytes(data[:5])
    store = Scripted(data)
    await store.fetch("x://y", tmp_path / "a", digest=digest_of(data))
    assert store.offsets == [5]


async def test_a_whole_partial_file_needs_no_source(tmp_path):
    data = b"abcdefgh"
    partial_of(tmp_path / "a").write_bytes(data)
    store = Scripted(b"")
    await store.fetch("x://y", tmp_path / "a", digest=digest_of(data))
    assert store.offsets == []
    assert (tmp_path / "a").read_bytes() == data


async def test_a_rotten_partial_file_costs_one_more_download_and_no_error(tmp_path):
    data = b"abcdefgh"
    partial_of(tmp_path / "a").write_bytes(b"abc\0\0")
    store = Scripted(data)
    await store.fetch("x://y", tmp_path / "a", digest=digest_of(data))
    assert store.offsets == [5, 0]
    assert (tmp_path / "a").read_bytes() == data


async def test_without_a_digest_the_partial_file_of_another_process_is_not_trusted(tmp_path):
    partial_of(tmp_path / "a").write_bytes(b"xyz")
    store = Scripted(b"abcdefgh")
    await store.fetch("x://y", tmp_path / "a")
    assert store.offsets == [0]
    assert (tmp_path / "a").read_bytes() == b"abcdefgh"


async def test_a_wrong_digest_is_told_at_once_and_leaves_nothing(tmp_path):
    store = Scripted(b"abcdefgh")
    with pytest.raises(ArtifactError) as refusal:
        await store.fetch("x://y", tmp_path / "a", digest=digest_of(b"other"), retry=QUICK)
    assert refusal.value.code == "ARTIFACT_CHECKSUM_MISMATCH"
    assert refusal.value.error_type == "COMPONENT_RECIPE_ERROR"
    assert store.offsets == [0]
    assert list(tmp_path.iterdir()) == []


async def test_a_wrong_digest_over_a_bad_link_is_told_after_a_second_chance(tmp_path):
    store = Scripted(b"abcdefgh", breaks=[(3, ConnectionResetError()), (None, None), (3, ConnectionResetError())])
    with pytest.raises(ArtifactError) as refusal:
        await store.fetch("x://y", tmp_path / "a", digest=digest_of(b"other"), retry=QUICK)
    assert refusal.value.code == "ARTIFACT_CHECKSUM_MISMATCH"
    assert store.offsets == [0, 3, 0, 3]


async def test_what_stays_unreachable_is_told_when_patience_ends_and_its_bytes_are_kept(tmp_path):
    retry = RetryPolicy(base_s=0.01, cap_s=0.01, give_up_after_s=0.1)
    store = Scripted(b"abcdefgh", breaks=[(3, ConnectionResetError())] * 10_000)
    with pytest.raises(ArtifactUnreachableError) as failure:
        await store.fetch("x://y", tmp_path / "a", digest=digest_of(b"abcdefgh"), retry=retry)
    assert failure.value.code == "NETWORK_ERROR"
    assert len(store.offsets) > 3
    assert partial_of(tmp_path / "a").read_bytes() == b"abc"
    assert not (tmp_path / "a").exists()


async def test_a_link_that_always_breaks_but_gets_further_is_never_given_up(tmp_path):
    data = bytes(range(200))
    retry = RetryPolicy(base_s=0.004, cap_s=0.004, give_up_after_s=0.3)
    store = Scripted(data, breaks=[(at, ConnectionResetError()) for at in range(1, 200)])
    await store.fetch("x://y", tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == data


async def test_a_link_that_always_breaks_and_gets_further_slower_than_the_floor_is_given_up(tmp_path):
    retry = RetryPolicy(base_s=0.004, cap_s=0.004, give_up_after_s=0.3)
    store = Scripted(bytes(10_000), breaks=[(at, ConnectionResetError()) for at in range(1, 10_000)], floor=1_000_000)
    with pytest.raises(ArtifactUnreachableError):
        await store.fetch("x://y", tmp_path / "a", retry=retry)


async def test_a_store_s_own_mistake_is_an_artifact_error_also_while_iterating(tmp_path):
    store = Scripted(b"abcdefgh", breaks=[(3, KeyError("secret-token"))])
    with pytest.raises(ArtifactError, match="Scripted failed with KeyError") as failure:
        await store.fetch("x://user:secret@y", tmp_path / "a", retry=QUICK)
    assert "secret" not in str(failure.value)
    assert store.offsets == [0]


async def test_more_bytes_than_allowed_are_refused_before_the_first_when_the_source_tells(tmp_path):
    store = Scripted(b"abcdefgh")
    with pytest.raises(ArtifactError, match="has 8 bytes, the limit is 7"):
        await store.fetch("x://y", tmp_path / "a", limits=ArtifactLimits(max_bytes=7))
    assert partial_of(tmp_path / "a").stat().st_size == 0


async def test_more_bytes_than_allowed_are_refused_while_they_come(tmp_path):
    class Silent(Scripted):
        @asynccontextmanager
        async def _open(self, uri, offset, version):
            yield Content(self._chunks(offset))

    store = Silent(b"abcdefgh", pieces=[2, 2, 2])
    with pytest.raises(ArtifactError, match="the limit is 7 bytes"):
        await store.fetch("x://y", tmp_path / "a", limits=ArtifactLimits(max_bytes=7))
    assert partial_of(tmp_path / "a").stat().st_size == 6


async def test_a_disk_that_would_be_full_is_refused_before_the_first_byte(tmp_path):
    store = Scripted(b"abcdefgh")
    with pytest.raises(ArtifactError) as refusal:
        await store.fetch("x://y", tmp_path / "a", limits=ArtifactLimits(reserve_bytes=2**62))
    assert refusal.value.code == "DISK_SPACE_CRITICAL"
    assert refusal.value.error_type == "DEVICE_ERROR"


async def test_a_disk_that_takes_no_more_is_told_as_such_and_not_retried(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Scripted(b"x" * 100_000, pieces=[10_000] * 9)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(ArtifactError) as refusal:
            await store.fetch("x://y", tmp_path / "a", retry=QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert refusal.value.code == "DISK_SPACE_CRITICAL"
    assert store.offsets == [0]


@pytest.mark.parametrize("after", [0, 1, 2, 5])
async def test_a_cancellation_leaves_only_a_partial_file_that_is_taken_up(tmp_path, after):
    data = b"abcdefgh"

    class Slow(Scripted):
        async def _chunks(self, start):
            for at in range(start, len(self.data)):
                if at - start == after:
                    reached.set()
                    await asyncio.Event().wait()
                yield self.data[at : at + 1]

    reached = asyncio.Event()
    task = asyncio.create_task(Slow(data).fetch("x://y", tmp_path / "a", digest=digest_of(data)))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial"]
    store = Scripted(data)
    await store.fetch("x://y", tmp_path / "a", digest=digest_of(data))
    assert store.offsets == [after]
    assert (tmp_path / "a").read_bytes() == data


async def test_progress_tells_bytes_here_and_bytes_there_will_be(tmp_path):
    on_progress = []
    store = Scripted(b"abcdefgh", pieces=[3, 3])
    await store.fetch("x://y", tmp_path / "a", on_progress=lambda done, total: on_progress.append((done, total)))
    assert on_progress == [(3, 8), (6, 8), (8, 8)]
