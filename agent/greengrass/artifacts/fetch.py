"""All artifacts of a deployment: room first, then in parallel, all or none.

::

    what is cached → how large is the rest → is there room → fetch → is there room unpacked → place, unpack

Nothing is placed before everything is here and every archive was checked, so what is wrong or cannot be
reached leaves nothing but resumable downloads in the cache.  The first failure cancels the other downloads.
Progress is the sum over the artifacts, reported at most once an interval and once at the end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self, TypeAlias, TypeVar

from agent.config.deployments import MAX_ARTIFACT_BYTES, ArtifactLimits, RetryPolicy, StoreOptions
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.partial import partial_of
from agent.greengrass.artifacts.registry import Stores
from agent.greengrass.artifacts.space import existing, require
from agent.greengrass.artifacts.store import in_thread
from agent.greengrass.artifacts.unpack import measure, unpack
from agent.greengrass.artifacts.uri import file_name, not_valid
from agent.greengrass.artifacts.zipplan import ZipLimits
from agent.greengrass.recipes.recipe import Artifact, Permission, Unarchive

__all__ = ["EXECUTE", "READ", "ArtifactRequest", "Fetcher", "Listener", "Meter", "Progress", "mode_of"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")
READ: Mapping[Permission, int] = {Permission.NONE: 0o400, Permission.OWNER: 0o440, Permission.ALL: 0o444}
EXECUTE: Mapping[Permission, int] = {Permission.NONE: 0, Permission.OWNER: 0o550, Permission.ALL: 0o555}


def mode_of(read: Permission, execute: Permission) -> int:
    """The file mode of an artifact's permissions; nobody may write, for its bytes may be shared."""
    return READ[read] | EXECUTE[execute]


@dataclass(frozen=True, slots=True)
class ArtifactRequest:
    """An artifact that is to stand at ``file``, and unpacked in the folder ``unpack_to`` if that is given."""

    uri: str
    file: Path
    digest: Digest | None = None
    mode: int = 0o440
    unpack_to: Path | None = None
    shared: bool = True
    """Whether the file may be a hard link; False for one whose owner is going to be changed."""

    @classmethod
    def of(cls, artifact: Artifact, files: Path, unarchived: Path, *, shared: bool = True) -> Self:
        """An artifact of a recipe in Greengrass's layout: ``files`` and ``unarchived`` are the version's folders.

        Raises:
            ArtifactError: its URI or digest cannot be read.
        """
        file = files / file_name(artifact.uri)
        return cls(
            artifact.uri,
            file,
            Digest.parse(artifact.digest, artifact.algorithm) if artifact.digest else None,
            mode_of(artifact.read, artifact.execute),
            unarchived / file.stem if artifact.unarchive is Unarchive.ZIP else None,
            shared,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is."""

    bytes_done: int
    bytes_total: int | None
    """None while a source does not tell how much it has."""
    artifacts_done: int
    artifacts_total: int


class Meter:
    """The count behind ``Progress``; ``interval_s`` keeps a fast link from flooding a topic."""

    def __init__(
        self, listener: Listener, *, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._listener = listener
        self._interval_s = interval_s
        self._clock = clock
        self._told_at = -interval_s + clock()
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._finished: set[str] = set()

    def expect(self, name: str, total: int | None) -> None:
        """Count ``name`` in, with the bytes it has if that is known."""
        self._total[name] = total
        self._done.setdefault(name, 0)

    def advance(self, name: str, done: int, total: int | None) -> None:
        """``done`` bytes of ``name`` are here."""
        self._done[name] = done
        self._total[name] = total if total is not None else self._total.get(name)
        self._tell(urgent=False)

    def finish(self, name: str) -> None:
        """``name`` is whole."""
        self._finished.add(name)
        self._total[name] = self._done[name] = max(self._done[name], self._total[name] or 0)
        self._tell(urgent=self._finished == self._total.keys())

    def _tell(self, *, urgent: bool) -> None:
        now = self._clock()
        if not urgent and now - self._told_at < self._interval_s:
            return
        self._told_at = now
        totals = [total for total in self._total.values() if total is not None]
        self._listener(
            Progress(
                bytes_done=sum(self._done.values()),
                bytes_total=sum(totals) if len(totals) == len(self._total) else None,
                artifacts_done=len(self._finished),
                artifacts_total=len(self._total),
            )
        )


@dataclass(frozen=True, slots=True)
class _Source:
    """One content to fetch, for one or more that want it; what has one target is one source, whatever its URI."""

    uri: str = field(compare=False)
    digest: Digest | None
    target: Path

    @property
    def name(self) -> str:
        return str(self.target)


class Fetcher:
    """Fetches the artifacts of one deployment at a time; a second one waits."""

    def __init__(
        self,
        cache: Cache,
        options: StoreOptions | None = None,
        *,
        parallel: int = 4,
        max_artifact_bytes: int = MAX_ARTIFACT_BYTES,
        zip_limits: ZipLimits | None = None,
        retry: RetryPolicy | None = None,
        progress_interval_s: float = 1.0,
    ) -> None:
        self._cache = cache
        self._options = options or StoreOptions()
        self._parallel = parallel
        self._limits = ArtifactLimits(max_artifact_bytes, cache.reserve_bytes)
        self._zip_limits = zip_limits or ZipLimits()
        self._retry = retry or RetryPolicy()
        self._progress_interval_s = progress_interval_s
        self._turn = asyncio.Lock()

    async def fetch_all(
        self, requests: Sequence[ArtifactRequest], listener: Listener = lambda _progress: None
    ) -> Mapping[ArtifactRequest, Digest]:
        """Have every artifact stand where it is requested; the digests of what came.

        Raises:
            ArtifactError: one of them cannot be used or had, or there is no room.
            ArtifactUnreachableError: one could not be reached until the retries were given up.
        """
        if not requests:
            return {}
        _refuse_clashes(requests)
        sources = {item: self._source(item) for item in requests}
        distinct = list(dict.fromkeys(sources.values()))
        meter = Meter(listener, interval_s=self._progress_interval_s)
        async with self._turn, Stores(self._options) as stores:
            with ExitStack() as pins:
                for source in distinct:
                    pins.enter_context(self._cache.pinned(source.target))
                missing = await self._missing(distinct, stores, meter)
                for item in requests[:1]:
                    await in_thread(self._check_room, missing, sources, item.file)
                came = await self._download(list(missing), stores, meter, pins)
                digests = {item: source.digest or came[source] for item, source in sources.items()}
                await self._place(digests)
        return digests

    def _source(self, request: ArtifactRequest) -> _Source:
        digest = request.digest
        return _Source(request.uri, digest, self._cache.path(digest) if digest else self._cache.unnamed(request.uri))

    async def _missing(self, sources: Sequence[_Source], stores: Stores, meter: Meter) -> dict[_Source, int | None]:
        """What the cache does not have, and how large it is."""
        missing = []
        for source in sources:
            if source.digest is None or await in_thread(self._cache.find, source.digest) is None:
                missing.append(source)  # noqa: PERF401 as a comprehension it takes two lines to read and an await
        serving = {source: stores.of(source.uri) for source in missing}
        sizes = await self._each(missing, lambda source: serving[source].size(source.uri, self._retry))
        for source, size in zip(missing, sizes, strict=True):
            meter.expect(source.name, size)
        return dict(zip(missing, sizes, strict=True))

    async def _download(
        self, missing: Sequence[_Source], stores: Stores, meter: Meter, pins: ExitStack
    ) -> dict[_Source, Digest]:
        async def fetch(source: _Source) -> Digest:
            digest = await stores.of(source.uri).fetch(
                source.uri,
                source.target,
                digest=source.digest,
                limits=self._limits,
                retry=self._retry,
                on_progress=partial(meter.advance, source.name),
            )
            pins.enter_context(self._cache.pinned(self._cache.path(digest)))
            await in_thread(self._cache.arrived, source.target, digest)
            meter.finish(source.name)
            return digest

        return dict(zip(missing, await self._each(missing, fetch), strict=True))

    def _check_room(
        self, missing: Mapping[_Source, int | None], sources: Mapping[ArtifactRequest, _Source], place: Path
    ) -> None:
        """Room for what is fetched and what is unpacked; an archive that is not here unpacks to its size at least."""
        needed = sum(max(0, (size or 0) - _present(source.target)) for source, size in missing.items())
        unpacked = sum(
            (missing[source] or 0) if source in missing else measure(source.target, self._zip_limits)
            for item, source in sources.items()
            if item.unpack_to
        )
        self._make_room(needed, unpacked, place)

    def _make_room(self, needed: int, unpacked: int, place: Path) -> None:
        if existing(place).stat().st_dev == existing(self._cache.folder).stat().st_dev:
            self._cache.make_room(needed, beside=unpacked)
        else:
            self._cache.make_room(needed)
            require(place, unpacked, self._limits.reserve_bytes)

    async def _place(self, digests: Mapping[ArtifactRequest, Digest]) -> None:
        archives = {item: self._cache.path(digest) for item, digest in digests.items() if item.unpack_to}
        sizes = {item: await in_thread(measure, path, self._zip_limits) for item, path in archives.items()}
        for item in list(digests)[:1]:
            await in_thread(self._make_room, 0, sum(sizes.values()), item.file)
        for item, digest in digests.items():
            await in_thread(partial(self._cache.materialise, digest, item.file, item.mode, shared=item.shared))
            if item.unpack_to:
                await self._unpack(archives[item], item.unpack_to, item.mode)

    async def _unpack(self, archive: Path, into: Path, mode: int) -> None:
        stop = threading.Event()
        work = partial(
            unpack,
            archive,
            into,
            mode=mode,
            limits=self._zip_limits,
            reserve_bytes=self._limits.reserve_bytes,
            stopped=stop.is_set,
        )
        await in_thread(work, interrupt=stop.set)

    async def _each(self, items: Sequence[Item], work: Callable[[Item], Awaitable[Answer]]) -> list[Answer]:
        """The answers in order, a few at work at a time; the first failure cancels the others and is raised."""
        gate = asyncio.Semaphore(self._parallel)

        async def one(item: Item) -> Answer:
            async with gate:
                return await work(item)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item), name="agent.greengrass.artifacts.fetch") for item in items]
        except BaseExceptionGroup as failures:
            first = failures.exceptions[0]
        else:
            return [task.result() for task in tasks]
        raise first


def _refuse_clashes(requests: Sequence[ArtifactRequest]) -> None:
    """File names are unique in a component version, and so are the folders they unpack to."""
    taken: set[Path] = set()
    for item in requests:
        places = {item.file} | ({item.unpack_to} if item.unpack_to else set())
        if places & taken:
            raise not_valid(item.uri, f"another artifact has the name {item.file.name!r} already")
        taken |= places


def _present(target: Path) -> int:
    """The bytes of a download that was interrupted."""
    try:
        return partial_of(target).stat().st_size
    except FileNotFoundError:
        return 0


Listener: TypeAlias = Callable[[Progress], None]
