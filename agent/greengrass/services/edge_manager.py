"""SageMaker Edge Manager's agent as a component: its interface is served while the component is deployed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from agent.edgeapi.edge_manager.settings import of_component
from agent.edgeapi.needed import servers
from agent.files import make_folder, passage
from agent.greengrass.services.base import Configuration, Serving

if TYPE_CHECKING:
    from agent.config.edgeapi import EdgeManagerOptions
    from agent.edgeapi.surroundings import Surroundings

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
        self._serving = Serving(self._enter)

    async def apply(self, configuration: Configuration | None) -> None:
        """Serve as the component's parameters say; other ones end what is served, and begin anew.

        Raises ``ConfigError``, ``SocketInUseError``, ``FolderInUseError`` and ``SpoolError``.
        """
        await self._serving.change(None if configuration is None else self._read(configuration))

    def _read(self, configuration: Configuration) -> EdgeManagerOptions:
        options = of_component(configuration).options
        capture = options.capture
        if capture.destination == "cloud" and not capture.bucket:
            log.warning("%s: there is no BucketName, so captures are refused", EDGE_MANAGER)
            capture = replace(capture, destination="none", periodic_upload=False)
        capture = replace(capture, folder=capture.folder or str(self._work / "capture"))
        capture.check()
        return replace(options, group=self._group, capture=capture)

    @asynccontextmanager
    async def _enter(self, options: EdgeManagerOptions) -> AsyncIterator[None]:
        make_folder(self._work, passage())
        async with servers().edge_manager(self._here, options, working=self._work):
            yield
