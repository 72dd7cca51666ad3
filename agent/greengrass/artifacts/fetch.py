"""All artifacts of a deployment: room first, then in parallel, all or none.

::

    what is cached → how large is the rest → is there room → fetch → is there room unpacked → place, unpack

Nothing is placed before everything is here and every archive was checked, so what is wrong or cannot be
reached leaves nothing but resumable downloads in the cache.  The first failure cancels the other downloads.
What the cache lost between two of these steps is fetched once more.  What came is written down (``inventory``);
``verify`` compares it with what stands there later, and puts it right.
Progress is the sum over the artifacts, reported at most once an interval and once at the end, and whenever one begins
to wait for a source that cannot be reached or goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

from agent.config.deployments import MAX_ARTIFACT_BYTES, ArtifactLimits, RetryPolicy, StoreOptions
from agent.errors import VergeError
from agent.files import make_folder
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError, RottenArtifactError
from agent.greengrass.artifacts.inventory import Inventory, Seen, differences
from agent.greengrass.artifacts.partial import partial_of
from agent.greengrass.artifacts.registry import Stores
from agent.greengrass.artifacts.request import ArtifactRequest
from agent.greengrass.artifacts.retry import Retry
from agent.greengrass.artifacts.space import existing, require, writing
from agent.greengrass.artifacts.store import in_thread
from agent.greengrass.artifacts.unpack import measure, unpack
from agent.greengrass.artifacts.uri import not_valid
from agent.greengrass.artifacts.zipplan import ZipLimits

__all__ = ["Fetcher", "Listener", "Meter", "Progress"]

logger = logging.getLogger(__name__)

_RESTORE_S = 60.0
"""For what a start waits for."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a fetch is."""

    bytes_done: int
    bytes_total: int | None
    """None while a source does not tell how much it has."""
    artifacts_done: int
    artifacts_total: int
    retries: tuple[Retry, ...] = ()
    """What cannot be reached just now."""


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
        self._retries: dict[str, Retry] = {}

    def expect(self, name: str, total: int | None) -> None:
        """Count ``name`` in, with the bytes it has if that is known."""
        self._retries.pop(name, None)
        self._total[name] = total
        self._done.setdefault(name, 0)

    def retry(self, name: str, retry: Retry) -> None:
        """``name`` could not be reached."""
        self._retries[name] = retry
        self._tell(urgent=True)

    def advance(self, name: str, done: int, total: int | None) -> None:
        """``done`` bytes of ``name`` are here."""
        self._done[name] = done
        self._total[name] = total if total is not None else self._total.get(name)
        self._tell(urgent=self._retries.pop(name, None) is not None)

    def finish(self, name: str) -> None:
        """``name`` is whole."""
        self._retries.pop(name, None)
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
                bytes_total=sum(totals) if totals and len(totals) == len(self._total) else None,
                artifacts_done=len(self._finished),
                artifacts_total=len(self._total),
                retries=tuple(self._retries.values()),
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
        self._seen: Seen = {}

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
        async with self._turn, Stores(self._options) as stores:
            try:
                return await self._fetch_all(requests, stores, listener)
            except RottenArtifactError as error:
                logger.warning("%s; once more", error.message)
                return await self._fetch_all(requests, stores, listener)

    async def verify(self, inventory: Path, *, thorough: bool = False) -> tuple[str, ...]:
        """Compare the files of an inventory with what came, and put right what is not so; what was wrong.

        Without ``thorough`` a file that nobody touched since the last time is not read.

        Raises:
            ArtifactError: files are wrong, and what came cannot be had again.
            ArtifactUnreachableError: files are wrong, and what came cannot be had now.
        """
        held = await in_thread(Inventory.read, inventory)
        if held is None:
            return ()
        wrong = await in_thread(partial(differences, held, self._seen, thorough=thorough))
        if wrong:
            await self._restore(held.requests(inventory))
        return wrong

    async def adopt(self, requests: Sequence[ArtifactRequest], inventory: Path) -> None:
        """Write an inventory for files of a time when none was written; what has a digest has to match it."""
        known = {item: item.digest for item in requests if item.digest}
        try:
            if len(known) < len(requests):
                await in_thread(_write, await in_thread(Inventory.standing, requests), inventory)
            else:
                await self._restore(requests)
        except (VergeError, OSError) as error:
            # Its check will fail, and say so, until it can be had.
            logger.warning("%s %s cannot be checked: %s", inventory.parent.name, inventory.stem, error)
            await in_thread(_write, Inventory.of(known, {item: {} for item in known}), inventory)

    async def _restore(self, requests: Sequence[ArtifactRequest]) -> None:
        """From the cache where it has everything, so that nobody waits for another's downloads; else from afar."""
        came = {item: item.digest for item in requests if item.digest}
        with ExitStack() as pins, suppress(RottenArtifactError):
            for digest in came.values():
                pins.enter_context(self._cache.pinned(self._cache.path(digest)))
            if all([await in_thread(self._cache.take, item.file, digest) for item, digest in came.items()]):
                await self._place(came)
                return
        try:
            async with asyncio.timeout(_RESTORE_S):
                await self.fetch_all(requests)
        except TimeoutError:
            raise ArtifactUnreachableError(
                f"what {requests[0].file.name} was before could not be had within {_RESTORE_S:g} s",
                hint="have the source reachable, or deploy the component anew",
            ) from None

    async def _fetch_all(
        self, requests: Sequence[ArtifactRequest], stores: Stores, listener: Listener
    ) -> Mapping[ArtifactRequest, Digest]:
        sources = {item: self._source(item) for item in requests}
        distinct = list(dict.fromkeys(sources.values()))
        meter = Meter(listener, interval_s=self._progress_interval_s)
        with ExitStack() as pins:
            for source in distinct:
                pins.enter_context(self._cache.pinned(source.target))
            missing = await self._missing(distinct, stores, meter)
            await in_thread(self._check_room, missing, sources, requests[0].file)
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
        sizes = await self._each(
            missing,
            lambda source: serving[source].size(source.uri, self._retry, partial(meter.retry, source.name)),
        )
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
                on_retry=partial(meter.retry, source.name),
            )
            pins.enter_context(self._cache.pinned(self._cache.path(digest)))
            await in_thread(self._cache.arrived, source.target, digest)
            meter.finish(source.name)
            return digest

        return dict(zip(missing, await self._each(missing, fetch), strict=True))

    def _check_room(
        self, missing: Mapping[_Source, int | None], sources: Mapping[ArtifactRequest, _Source], place: Path
    ) -> None:
        """Room for what is fetched, placed and unpacked; an archive that is not here unpacks to its size at least."""
        needed = sum(max(0, (size or 0) - _present(source.target)) for source, size in missing.items())
        beside = 0
        for item, source in sources.items():
            size = (missing[source] or 0) if source in missing else _size(source.target)
            beside += size
            if item.unpack_to:
                beside += size if source in missing or source.digest is None else self._unpacked(source.digest)
        self._make_room(needed, beside, place)

    def _unpacked(self, digest: Digest) -> int:
        """The bytes that an archive in the cache unpacks to."""
        try:
            return measure(self._cache.path(digest), self._zip_limits)
        except ArtifactError:
            if self._cache.find(digest) is None:
                raise RottenArtifactError(f"the archive {digest} is rotten in the cache") from None
            raise

    def _make_room(self, needed: int, unpacked: int, place: Path) -> None:
        if existing(place).stat().st_dev == existing(self._cache.folder).stat().st_dev:
            self._cache.make_room(needed, beside=unpacked)
        else:
            self._cache.make_room(needed)
            require(place, unpacked, self._limits.reserve_bytes)

    async def _place(self, digests: Mapping[ArtifactRequest, Digest]) -> None:
        beside = 0
        for item, digest in digests.items():
            beside += _size(self._cache.path(digest))
            beside += await in_thread(self._unpacked, digest) if item.unpack_to else 0
        for item in list(digests)[:1]:
            await in_thread(self._make_room, 0, beside, item.file)
        unpacked: dict[ArtifactRequest, Mapping[str, Digest]] = {}
        for item, digest in digests.items():
            await in_thread(self._cache.materialise, digest, item.file, item.mode)
            if item.unpack_to:
                # From what was placed: that was compared with its digest.
                unpacked[item] = await self._unpack(item.file, item.unpack_to, item.mode)
        for path in dict.fromkeys(item.inventory for item in digests):
            if path is not None:
                of = {item: digest for item, digest in digests.items() if item.inventory == path}
                await in_thread(_write, Inventory.of(of, unpacked), path)

    async def _unpack(self, archive: Path, into: Path, mode: int) -> Mapping[str, Digest]:
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
        return await in_thread(work, interrupt=stop.set)

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


def _write(inventory: Inventory, path: Path) -> None:
    with writing(path):
        make_folder(path.parent)
        inventory.write(path)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise RottenArtifactError(f"{path.name} is gone from the cache") from None


def _present(target: Path) -> int:
    """The bytes of a download that was interrupted."""
    try:
        return partial_of(target).stat().st_size
    except FileNotFoundError:
        return 0


Listener: TypeAlias = Callable[[Progress], None]
