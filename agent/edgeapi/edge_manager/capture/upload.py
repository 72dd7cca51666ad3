"""What captures left on the disk, to a bucket as well: in order, each file once by its key, the files stay."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from agent.edgeapi.edge_manager.capture.destinations import CaptureDestination
from agent.edgeapi.edge_manager.capture.record import File
from agent.edgeapi.edge_manager.capture.spool import Spool
from agent.errors import InvalidInputError, VergeError

__all__ = ["upload"]

log = logging.getLogger(__name__)

_AT_ONCE: Final = 100


async def upload(spool: Spool, folder: Path, bucket: CaptureDestination, period_s: float) -> None:
    """Bring what the spool notes to the bucket every ``period_s``, until cancelled."""
    trouble = ""
    while True:
        try:
            await _round(spool, folder, bucket)
            trouble = ""
        except VergeError as error:
            if error.message != trouble:
                log.warning("captured files wait for their upload: %s", error)
            trouble = error.message
        await asyncio.sleep(period_s)


async def _round(spool: Spool, folder: Path, bucket: CaptureDestination) -> None:
    while waiting := await spool.uploads(_AT_ONCE):
        for number, path in waiting:
            try:
                data = await asyncio.to_thread((folder / path).read_bytes)
                await bucket.write([File(path, data)])
            except (OSError, InvalidInputError) as error:  # somebody took it away, or S3 never takes it
                log.warning("the captured file %s is not uploaded: %s", path, error)
            await spool.uploaded(number)
