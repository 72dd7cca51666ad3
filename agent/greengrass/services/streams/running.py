"""The parts of a stream manager that runs: store, requests, server and exports, opened and closed together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.greengrass.services.streams.exports import Exports
from agent.greengrass.services.streams.options import Options
from agent.greengrass.services.streams.requests import Requests
from agent.greengrass.services.streams.server import Holder, StreamServer
from agent.greengrass.services.streams.store import Store

__all__ = ["Running"]


class Running:
    """One stream manager, from ``start`` to ``stop``; making it opens the store."""

    def __init__(self, path: Path, holder: Holder, clients: Any, options: Options) -> None:
        store = Store(path)
        self._port = options.port
        self._requests = Requests(store, self._changed)
        self._exports = Exports(store, self._requests, clients, options.part_bytes)
        self._server = StreamServer(self._requests, holder, authenticate=options.authenticate)

    async def start(self) -> int:
        """Listen and export; gives the port."""
        try:
            port = await self._server.start(self._port)
        except BaseException:
            await self._requests.close()
            raise
        self._exports.start()
        return port

    async def stop(self) -> None:
        """End connections and exports, and close the store."""
        await self._server.stop()
        await self._exports.stop()
        await self._requests.close()

    def _changed(self) -> None:
        self._exports.changed()
