"""All artifacts of a deployment: room first, then in parallel, all or none.

::

    what is cached → how large is the rest → is there room → fetch → is there room unpacked → place, unpack

Nothing is placed before everything is here and every archive was found fit, so what is wrong or cannot be
reached leaves nothing but resumable downloads in the cache.  The first failure cancels the other downloads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from agent.config.artifacts import MAX_ARTIFACT_BYTES, Limits, Patience, StoreOptions
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.partial import partial_of
from agent.greengrass.artifacts.progress import Listener, Meter
from agent.greengrass.artifacts.registry import Stores
from agent.greengrass.artifacts.space import existing, require
from agent.greengrass.artifacts.thread import in_thread
from agent.greengrass.artifacts.unpack import measure, unpack
from agent.greengrass.artifacts.uri import not_valid
from agent.greengrass.artifacts.wanted import Wanted
from agent.greengrass.artifacts.zipplan import ZipLimits

__all__ = ["Fetcher"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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
        patience: Patience | None = None,
        progress_interval_s: float = 1.0,
    ) -> None:
        self._cache = cache
        self._options = options or StoreOptions()
        self._parallel = parallel
        self._limits = Limits(max_artifact_bytes, cache.reserve_bytes)
        self._zip_limits = zip_limits or ZipLimits()
        self._patience = patience or Patience()
        self._progress_interval_s = progress_interval_s
        self._turn = asyncio.Lock()

    async def fetch_all(
        self, wanted: Sequence[Wanted], listener: Listener = lambda _progress: None
    ) -> Mapping[Wanted, Digest]:
        """Have every artifact stand where it is wanted; the digests of what came.

        Raises:
            ArtifactError: one of them cannot be used or had, or there is no room.
            ArtifactUnreachableError: one could not be reached for as long as there was patience.
        """
        _refuse_clashes(wanted)
        sources = {item: self._source(item) for item in wanted}
        distinct = list(dict.fromkeys(sources.values()))
        meter = Meter(listener, interval_s=self._progress_interval_s)
        async with self._turn, Stores(self._options) as stores:
            with ExitStack() as pins:
                for source in distinct:
                    pins.enter_context(self._cache.pinned(source.target))
                missing = await self._missing(distinct, stores, meter)
                for item in wanted[:1]:
                    await in_thread(self._check_room, missing, sources, item.file)
                came = await self._download(list(missing), stores, meter, pins)
                found = {item: source.digest or came[source] for item, source in sources.items()}
                await self._place(found)
        return found

    def _source(self, wanted: Wanted) -> _Source:
        digest = wanted.digest
        return _Source(wanted.uri, digest, self._cache.path(digest) if digest else self._cache.unnamed(wanted.uri))

    async def _missing(self, sources: Sequence[_Source], stores: Stores, meter: Meter) -> dict[_Source, int | None]:
        """What the cache does not have, and how large it is."""
        missing = []
        for source in sources:
            if source.digest is None or await in_thread(self._cache.find, source.digest) is None:
                missing.append(source)  # noqa: PERF401 as a comprehension it takes two lines to read and an await
        serving = {source: stores.of(source.uri) for source in missing}
        sizes = await self._each(missing, lambda source: serving[source].size(source.uri, self._patience))
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
                patience=self._patience,
                heard=partial(meter.advance, source.name),
            )
            pins.enter_context(self._cache.pinned(self._cache.path(digest)))
            await in_thread(self._cache.arrived, source.target, digest)
            meter.finish(source.name)
            return digest

        return dict(zip(missing, await self._each(missing, fetch), strict=True))

    def _check_room(
        self, missing: Mapping[_Source, int | None], sources: Mapping[Wanted, _Source], place: Path
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

    async def _place(self, found: Mapping[Wanted, Digest]) -> None:
        archives = {item: self._cache.path(digest) for item, digest in found.items() if item.unpack_to}
        sizes = {item: await in_thread(measure, path, self._zip_limits) for item, path in archives.items()}
        for item in list(found)[:1]:
            await in_thread(self._make_room, 0, sum(sizes.values()), item.file)
        for item, digest in found.items():
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


def _refuse_clashes(wanted: Sequence[Wanted]) -> None:
    """File names are unique in a component version, and so are the folders they unpack to."""
    taken: set[Path] = set()
    for item in wanted:
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
