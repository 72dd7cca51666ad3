"""The seam to the places artifacts come from.

A store says how to open a URI at an offset; the base class promises the rest, for ours and for strangers':

- what is whole becomes visible, and nothing else: the bytes gather beside the target and are renamed;
- never more bytes than allowed, on the disk's word before and during;
- hashed while they stream; what is put together from two answers and does not match is fetched once more
  from the start, what came in one piece and does not match is wrong;
- what is interrupted goes on where it stopped, if the source still has the same content;
- what cannot be reached is tried again with growing, random delays; what is wrong is not;
- what comes slower than the floor counts as unreachable, and does not count as progress: a source that gives a byte
  now and then holds nobody longer than one that gives none;
- a cancellation at any point leaves a partial file that the next attempt takes up;
- a store's own exceptions come out as ``ArtifactError`` or ``ArtifactUnreachableError``, also while iterating.

Files are written off the event loop, by ``in_thread``: ``asyncio.to_thread`` returns from a cancelled wait while the
thread goes on, and whoever then closes the file closes it under the thread's hands.  Here a cancellation is delivered
when the thread is done, so the work has to be short, or to stop when ``interrupt`` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar, TypeVarTuple

from agent.aws.credentials import CredentialsProvider
from agent.config.aws import AwsOptions
from agent.config.deployments import ArtifactLimits, RetryPolicy, StoreOptions
from agent.errors import VergeError
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.partial import Partial
from agent.greengrass.artifacts.rate import RateFloor
from agent.greengrass.artifacts.retry import OnRetry, persist
from agent.greengrass.artifacts.uri import shown

__all__ = ["AwsStoreOptions", "Content", "OnProgress", "Store", "in_thread"]

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
OnProgress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that are here and the bytes there will be, if that is known."""
Arguments = TypeVarTuple("Arguments")


class AwsStoreOptions(StoreOptions, frozen=True, kw_only=True):
    """``StoreOptions`` of a device that belongs to an AWS account."""

    aws: AwsOptions = AwsOptions()
    credentials: CredentialsProvider | None = None
    """None: what the AWS SDK finds by itself."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a source gives: the bytes from ``offset`` to the end."""

    chunks: AsyncIterator[bytes]
    offset: int = 0
    total: int | None = None
    """Bytes of the whole artifact, if the source tells."""
    version: str | None = None
    """Another text whenever the content is another; None when the source does not tell."""


class Store(ABC):
    """A place artifacts come from."""

    def __init__(self, options: StoreOptions) -> None:
        self._options = options

    @abstractmethod
    def _open(self, uri: str, offset: int, version: str | None) -> AbstractAsyncContextManager[Content]:
        """Give the bytes of ``uri`` from ``offset`` on if its content is still ``version``, else from 0."""

    async def close(self) -> None:  # noqa: B027 most stores hold nothing between two artifacts
        """Let go of connections."""

    async def size(
        self, uri: str, retry: RetryPolicy | None = None, on_retry: OnRetry = lambda _retry: None
    ) -> int | None:
        """How many bytes there are, None if the source does not tell.

        Raises:
            ArtifactError: it cannot be had.
            ArtifactUnreachableError: it could not be reached for as long as ``retry`` lasts.
        """

        async def ask() -> int | None:
            with self._translated(uri):
                async with self._floor(uri), self._open(uri, 0, None) as content:
                    return content.total

        return await persist(ask, retry or RetryPolicy(), shown(uri), on_retry=on_retry)

    def _floor(self, uri: str) -> RateFloor:
        return RateFloor(shown(uri), self._options.min_bytes_per_s, self._options.rate_window_s)

    async def fetch(
        self,
        uri: str,
        into: Path,
        *,
        digest: Digest | None = None,
        limits: ArtifactLimits | None = None,
        retry: RetryPolicy | None = None,
        on_progress: OnProgress = lambda _done, _total: None,
        on_retry: OnRetry = lambda _retry: None,
    ) -> Digest:
        """Download to ``into``, bounded, verified, visible only when whole; the digest of what came.

        Raises:
            ArtifactError: it cannot be had or is not what was promised.
            ArtifactUnreachableError: no byte came for as long as ``retry`` lasts; what came before is kept.
        """
        limits = limits or ArtifactLimits()
        partial = Partial(into, max_bytes=limits.max_bytes, reserve_bytes=limits.reserve_bytes)
        download = _Download(uri, partial, digest, on_progress, on_retry)
        try:
            await in_thread(partial.open, digest is not None)
            return await self._complete(download, retry or RetryPolicy())
        finally:
            partial.close()

    async def _complete(self, download: _Download, retry: RetryPolicy) -> Digest:
        """Fill the partial file until it is what was promised; a second chance for what was pieced together."""
        partial, wanted = download.partial, download.digest
        for last in (False, True):
            if partial.digest != wanted:
                await persist(
                    lambda: self._fill(download),
                    retry,
                    shown(download.uri),
                    furthest=lambda: partial.furthest,
                    on_retry=download.on_retry,
                    floor=self._options.min_bytes_per_s,
                )
            came = partial.digest
            if wanted in {None, came}:
                await in_thread(partial.finish)
                return came
            if last or partial.pieces <= 1:
                break
            logger.info("%s does not match its digest after it was resumed; once more", shown(download.uri))
            await in_thread(partial.restart)
        partial.discard()
        raise ArtifactError(
            f"{shown(download.uri)} has the digest {came}, the recipe says {wanted}",
            hint="publish the file that the recipe was written for, or a new version",
            code="ARTIFACT_CHECKSUM_MISMATCH",
        )

    async def _fill(self, download: _Download) -> None:
        """One answer of the source, from where the partial file ends."""
        partial = download.partial
        resumable = download.digest is not None or partial.version is not None
        offset = partial.size if resumable else 0
        with self._translated(download.uri):
            async with (
                self._floor(download.uri) as floor,
                self._open(download.uri, offset, partial.version) as content,
            ):
                fits = _continues(content, partial, offset)
                if fits:
                    await self._pour(content, download, floor)
                    return
        if offset == 0:
            raise ArtifactError(f"{shown(download.uri)}: the source does not begin at the first byte")
        # What is there belongs to another content, and the source would only go on: begin anew.
        await in_thread(partial.restart)
        await self._fill(download)

    async def _pour(self, content: Content, download: _Download, floor: RateFloor) -> None:
        partial = download.partial
        if content.offset != partial.size:
            await in_thread(partial.restart)
        partial.version = content.version or partial.version
        partial.pieces += 1
        partial.expect(content.total)
        async for chunk in content.chunks:
            floor.came(len(chunk))
            await in_thread(partial.write, chunk)
            download.on_progress(partial.size, content.total)
        if content.total is not None and partial.size != content.total:
            raise ArtifactUnreachableError(
                f"{shown(download.uri)} ended after {partial.size} of {content.total} bytes",
                hint="the link or the server broke off",
            )

    @contextmanager
    def _translated(self, uri: str) -> Iterator[None]:
        try:
            yield
        except VergeError:
            raise
        except OSError as error:
            raise ArtifactUnreachableError(f"{shown(uri)}: {error.strerror or type(error).__name__}") from error
        except Exception as error:
            raise ArtifactError(
                f"{shown(uri)}: {type(self).__name__} failed with {type(error).__name__}",
                hint="this is a defect of the store; the log has its traceback",
            ) from error


@dataclass(frozen=True, slots=True)
class _Download:
    uri: str
    partial: Partial
    digest: Digest | None
    on_progress: OnProgress
    on_retry: OnRetry


def _continues(content: Content, partial: Partial, offset: int) -> bool:
    """Whether the bytes can be used: from the start, or after ours and of the same content."""
    if content.offset == 0:
        return True
    same = content.version is None or partial.version is None or content.version == partial.version
    return content.offset == offset and same


async def in_thread(
    work: Callable[[*Arguments], Answer],
    *args: *Arguments,
    interrupt: Callable[[], object] | None = None,
) -> Answer:
    """The answer of ``work``, run in a thread; when this returns or raises, ``work`` has ended."""
    pending = asyncio.get_running_loop().run_in_executor(None, work, *args)
    try:
        return await asyncio.shield(pending)
    except asyncio.CancelledError:
        if interrupt:
            interrupt()
        while not pending.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([pending])
        if not pending.cancelled():
            pending.exception()  # looked at: the cancellation is what the caller hears of
        raise
