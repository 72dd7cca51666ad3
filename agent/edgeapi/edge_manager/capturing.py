"""Captures put together: from the options to a queue, its destination and what is uploaded beside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.config.edgeapi import CaptureOptions
from agent.edgeapi.edge_manager.capture.capture import Capture, CaptureLimits, Captures, NoCaptures
from agent.edgeapi.edge_manager.capture.destinations import Bucket, Folder
from agent.edgeapi.edge_manager.capture.queue import Rules
from agent.edgeapi.edge_manager.capture.record import CapturePlace
from agent.edgeapi.edge_manager.capture.upload import upload
from agent.edgeapi.sockets import group_number
from agent.files import under

__all__ = ["capturing"]


@asynccontextmanager
async def capturing(
    options: CaptureOptions, device: str, fleet: str, base: Path, home: Path, group: str,
    s3: Callable[[], Callable[[], Any]],
) -> AsyncIterator[Captures]:  # fmt: skip
    """Captures on their way to where the options want them, until left; they are kept in ``home`` meanwhile.

    ``group`` may read what is on the disk, ``s3`` gives what makes a client of S3's.  Raises ``ConfigError``,
    ``SpoolError``, and what ``s3`` raises.
    """
    options.check()
    if options.destination == "none":
        yield NoCaptures()
        return
    cloud = options.destination == "cloud"
    bucket = Bucket(options.bucket, s3()) if cloud or options.periodic_upload else None
    folder = under(base, options.folder) if options.folder else home / "captures"
    place = CapturePlace(
        device, fleet, f"s3://{options.bucket}" if cloud else folder.absolute().as_uri(),
        options.prefix, options.embed_limit, flat=not cloud and not options.prefix,
    )  # fmt: skip
    most = max(options.buffer_size, options.offline_size) if cloud else options.buffer_size
    capture = Capture(
        home / "captures.db", place, bucket if cloud and bucket else Folder(folder, group_number(group)),
        Rules(min(options.batch_size, options.buffer_size), options.push_period_s),
        CaptureLimits(most, options.max_waiting_bytes), upload=options.periodic_upload and not cloud,
    )  # fmt: skip
    async with capture:
        if cloud or bucket is None:
            yield capture
            return
        uploading = asyncio.create_task(
            upload(capture.spool, folder, bucket, options.upload_period_s), name="agent.edgeapi.captures.upload"
        )
        try:
            yield capture
        finally:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)
