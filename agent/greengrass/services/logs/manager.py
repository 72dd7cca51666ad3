"""The service: rounds of uploads, and the bound of the disk.

Logs are uploaded in order, from where the last batch ended; the place is on disk before the next batch goes.  A file
that is still written is uploaded as well, up to its last whole event.  A batch whose answer did not arrive is sent
again: CloudWatch Logs may then have it twice, and never not at all.  What is removed before it was uploaded, by
rotation or by the bound of the disk, is counted in the agent's log.

Logs of the agent itself are not in files but with the system's journal, and are not uploaded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent.aws.credentials import CredentialsProvider
from agent.config.aws import AwsOptions
from agent.errors import VergeError
from agent.greengrass.services.logs import events, files
from agent.greengrass.services.logs.files import LogFile
from agent.greengrass.services.logs.options import LogOptions, Source, parse
from agent.greengrass.services.logs.positions import Positions

if TYPE_CHECKING:
    from agent.greengrass.services.logs.cloud import CloudLogs

__all__ = ["LOG_MANAGER", "LogManager"]

log = logging.getLogger(__name__)

LOG_MANAGER: Final = "aws.greengrass.LogManager"

_PIECE_BYTES: Final = 1024 * 1024
_QUIET_S: Final = 2.0
"""So long after its last line, the last event of a file that is written counts as whole."""


class LogManager:
    """Logs below ``logs`` and wherever sources say; without ``aws`` they are bounded and not uploaded."""

    def __init__(
        self, thing: str, logs: Path, positions: Path, aws: AwsOptions | None, credentials: CredentialsProvider | None
    ) -> None:
        self._thing, self._logs = thing, logs
        self._aws, self._credentials = aws, credentials
        self._positions = Positions(positions)
        self._options = LogOptions()
        self._cloud: CloudLogs | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._leaving = False
        self._troubles: dict[str, str] = {}
        """By source: what was last said of it."""

    async def apply(self, configuration: Mapping[str, Any] | None) -> None:
        """Be so configured; None: finish the batch that is under way and stop.  Raises ``InvalidInputError``."""
        if configuration is None:
            await self._leave()
            return
        self._options = parse(configuration, self._logs)
        if self._options.system:
            log.warning("%s: the agent's own logs are in the system's journal: not uploaded", LOG_MANAGER)
        if self._task is None:
            await asyncio.to_thread(self._positions.load)
            self._task = asyncio.create_task(self._run(), name="agent.greengrass.services.logs")
        self._changed.set()

    async def _leave(self) -> None:
        self._leaving = True
        self._changed.set()
        if self._task is not None:
            await self._task
        if self._cloud is not None:
            await asyncio.to_thread(self._cloud.close)

    async def _run(self) -> None:
        while not self._leaving:
            self._changed.clear()
            options = self._options
            for source in options.sources:
                await self._attend(source)
            with suppress(TimeoutError):
                async with asyncio.timeout(options.interval_s):
                    await self._changed.wait()

    async def _attend(self, source: Source) -> None:
        """One source's round; what is the matter with it is logged, once as long as it is the same."""
        trouble = ""
        try:
            if self._aws is not None:
                await self._upload(source, self._aws)
            gone = files.bound(source)
            if gone:
                log.info("%s: %d old log files were removed for their disk space", source.name, gone)
        except (VergeError, OSError) as error:
            trouble = str(error)
        except Exception:  # a fault of ours costs the logs of one component their turn, and not those of all
            log.exception("the logs of %s", source.name)
        if trouble and self._troubles.get(source.name) != trouble:
            log.warning("the logs of %s: %s", source.name, trouble)
        self._troubles[source.name] = trouble

    async def _upload(self, source: Source, aws: AwsOptions) -> None:
        if self._cloud is None:
            self._cloud = await asyncio.to_thread(_connected, aws, self._credentials)
        found = await asyncio.to_thread(files.listed, source)
        lost = self._positions.keep(source.name, [file.identity for file in found])
        if lost:
            log.warning("%s: %d bytes of logs were removed before they were uploaded", source.name, lost)
        for file in found:
            self._positions.saw(source.name, file.identity, file.size)
            done = await self._upload_file(source, file, self._cloud)
            if done and source.delete_uploaded and not file.active:
                files.remove(file)
            if self._leaving or not done:
                return

    async def _upload_file(self, source: Source, file: LogFile, cloud: CloudLogs) -> bool:
        """Upload what is whole of a file; whether the next may follow."""
        while not self._leaving:
            position = self._positions.of(file.identity)
            data = await asyncio.to_thread(files.piece, file, position, _PIECE_BYTES)
            if data is None:
                return False
            full = len(data) == _PIECE_BYTES
            cut = not full and not file.active
            whole = cut or (not full and time.time() - file.changed_s > _QUIET_S)
            pending = events.events(
                data, position, source.new_event, int(file.changed_s * 1000), whole=whole, cut=cut, full=full
            )
            batch = events.batch(pending, source.level)
            if batch is None:
                return True
            if batch.messages:
                await asyncio.to_thread(self._send, source, batch, cloud)
            self._positions.reached(source.name, file.identity, batch.end)
        return False

    def _send(self, source: Source, batch: events.LogBatch, cloud: CloudLogs) -> None:
        group = f"/aws/greengrass/UserComponent/{cloud.region}/{source.name}"
        refused = cloud.put(group, f"/{batch.day}/thing/{self._thing}", batch.messages)
        if refused:
            log.warning("%s: CloudWatch Logs refused %d lines for their age", source.name, refused)


def _connected(aws: AwsOptions, credentials: CredentialsProvider | None) -> CloudLogs:
    # Imported here, in a thread: only where logs are uploaded.
    from agent.greengrass.services.logs.cloud import CloudLogs  # noqa: PLC0415

    return CloudLogs(aws, credentials)
