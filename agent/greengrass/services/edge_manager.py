"""SageMaker Edge Manager's agent as a component: its interface is served while the component is deployed."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.edgeapi.edge_manager.settings import of_component
from agent.edgeapi.needed import servers
from agent.files import make_folder, passage
from agent.greengrass.services.base import Configuration

if TYPE_CHECKING:
    from agent.config.edgeapi import EdgeManagerOptions
    from agent.edgeapi.wiring import Surroundings

__all__ = ["EDGE_MANAGER", "EdgeManager"]

log = logging.getLogger(__name__)

EDGE_MANAGER: Final = "aws.greengrass.SageMakerEdgeManager"


class EdgeManager:
    """Serves models by path and of components; ``work`` is where relative paths start.

    ``group`` is whose members may connect, beside the agent's user.
    """

    def __init__(self, here: Surroundings, work: Path, group: str = "") -> None:
        self._here = here
        self._work = work
        self._group = group
        self._serving = AsyncExitStack()
        self._options: EdgeManagerOptions | None = None

    async def apply(self, configuration: Configuration | None) -> None:
        """Serve as the component's parameters say; other ones end what is served, and begin anew.

        Raises ``ConfigError``, ``SocketInUseError``, ``FolderInUseError`` and ``SpoolError``.
        """
        if configuration is None:
            await self._leave()
            return
        options = self._read(configuration)
        if options == self._options:
            return
        before = self._options
        await self._leave()
        try:
            await self._enter(options)
        except BaseException:
            if before is not None:
                await self._enter(before)
            raise

    def _read(self, configuration: Configuration) -> EdgeManagerOptions:
        options = of_component(configuration).options
        capture = options.capture
        if capture.destination == "cloud" and not capture.bucket:
            log.warning("%s: there is no BucketName, so captures are refused", EDGE_MANAGER)
            capture = replace(capture, destination="none", periodic_upload=False)
        capture = replace(capture, folder=capture.folder or str(self._work / "capture"))
        capture.check()
        return replace(options, group=self._group, capture=capture)

    async def _enter(self, options: EdgeManagerOptions) -> None:
        make_folder(self._work, passage())
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(servers().edge_manager(self._here, options, working=self._work))
            self._serving, self._options = stack.pop_all(), options

    async def _leave(self) -> None:
        self._options = None
        await self._serving.aclose()
