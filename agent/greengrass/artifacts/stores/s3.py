"""Artifacts in S3: ``s3://bucket/key``.

boto3 does the talking, in threads; it is imported by the thread that fetches the first such artifact (``aws.sdk``
tells what it costs).  An object is looked at first (HEAD: its size and its ETag), then fetched in parts (``s3parts``)
that S3 gives only while the ETag is still the same, so a new object under the same key begins anew.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from agent.aws.detached import detached
from agent.config.artifacts import StoreOptions
from agent.greengrass.artifacts.store import Content, Store
from agent.greengrass.artifacts.stores.s3errors import S3Error
from agent.greengrass.artifacts.stores.s3options import AwsStoreOptions
from agent.greengrass.artifacts.stores.s3parts import PARALLEL, Parts
from agent.greengrass.artifacts.stores.s3place import Place

if TYPE_CHECKING:
    from agent.greengrass.artifacts.stores.s3client import S3Client

__all__ = ["S3Store"]

Answer = TypeVar("Answer")


class S3Store(Store):
    """Amazon's S3, or what stands in for it; an ETag tells one content from another."""

    def __init__(self, options: StoreOptions) -> None:
        super().__init__(options)
        self._aws = options if isinstance(options, AwsStoreOptions) else AwsStoreOptions()
        self._client: S3Client | None = None
        self._connecting = asyncio.Lock()
        self._gate = asyncio.Semaphore(PARALLEL)

    async def close(self) -> None:
        """Close the connections; what still tries to connect ends by itself."""
        if self._client is not None:
            self._client.close()

    @asynccontextmanager
    async def _open(self, uri: str, offset: int, version: str | None) -> AsyncIterator[Content]:
        place = Place.parse(uri)
        client = await self._connected()
        facts = await _answer(lambda: client.facts(place))
        same = version in {None, facts.etag} and offset <= facts.size
        start = offset if same else 0
        parts = Parts(
            lambda first, end: client.part(place, facts, first, end), place.uri, start, facts.size, self._gate
        )
        try:
            yield Content(parts.chunks(), start, facts.size, facts.etag)
        finally:
            await parts.close()

    async def _connected(self) -> S3Client:
        async with self._connecting:
            if self._client is None:
                self._client = await _answer(lambda: _connect(self._aws))
            return self._client


async def _answer(work: Callable[[], Answer]) -> Answer:
    """What blocking work comes to; a cancellation does not wait for it."""
    return await asyncio.wrap_future(detached(work, "verge-s3"))


def _connect(options: AwsStoreOptions) -> S3Client:
    try:
        module = importlib.import_module("agent.greengrass.artifacts.stores.s3client")
    except ModuleNotFoundError as error:
        raise S3Error(
            f"artifacts in S3 need boto3, and {error.name} is not installed",
            hint="pip install 'verge-edge[aws]'",
            code="DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD",
        ) from error
    client: S3Client = module.S3Client(options)
    return client
