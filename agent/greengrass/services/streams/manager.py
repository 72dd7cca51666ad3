"""The service ``aws.greengrass.StreamManager``: the server while the component is deployed, as it is configured.

A change of the configuration ends every connection and opens anew; the clients connect again by themselves.  Streams
on disk stay when the component leaves: a person may deploy it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent.errors import BackendUnavailableError
from agent.files import make_folder
from agent.greengrass.services.streams.options import IGNORED, Options, options_of

__all__ = ["Clients", "StreamManager"]

log = logging.getLogger(__name__)

Clients = Callable[[str], Any]
"""The name of a service of AWS → a boto3 client of it; raises ``VergeError`` where there is none now."""
_FILE = "streams.db"


class StreamManager:
    """The stream manager.

    ``folder`` is where streams are kept unless the configuration names another; ``holder`` gives the component that
    has a token; ``clients`` makes clients of AWS, None where there is no account.
    """

    def __init__(self, folder: Path, holder: Callable[[str], str | None], clients: Clients | None = None) -> None:
        self._folder = folder
        self._holder = holder
        self._clients = clients
        self._running: Any = None
        self.port: int | None = None

    async def apply(self, configuration: Mapping[str, Any] | None) -> None:
        """Be so configured from now on; None: not deployed.

        Raises:
            DeploymentError: The configuration cannot be; what runs goes on.
            UnreachableError: The port or the disk cannot be had; nothing runs.
        """
        options = None if configuration is None else options_of(configuration)
        await self._stop()
        if options is not None and configuration is not None:
            for key in IGNORED:
                if key in configuration:
                    log.info("stream manager: %s has no effect here", key)
            await self._start(options)

    async def _start(self, options: Options) -> None:
        try:
            from agent.greengrass.services.streams.running import Running  # noqa: PLC0415 needs cbor2
        except ImportError as error:
            raise BackendUnavailableError(
                f"the stream manager needs a package that is missing: {error.name}",
                hint="pip install 'verge-edge[streams]'",
            ) from error
        folder = Path(options.folder) if options.folder else self._folder
        make_folder(folder)
        running = Running(folder / _FILE, self._holder, self._clients, options)
        self.port = await running.start()
        self._running = running
        log.info("the stream manager listens on port %d", self.port)

    async def _stop(self) -> None:
        running, self._running, self.port = self._running, None, None
        if running:
            await running.stop()
