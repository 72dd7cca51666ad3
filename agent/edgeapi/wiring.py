"""The servers put together; imported only where the configuration or a component asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.config.edgeapi import EdgeManagerOptions, LookoutOptions, SocketOptions
from agent.config.models import ModelOptions
from agent.edgeapi.edge_manager.service import EdgeManagerService
from agent.edgeapi.lookout.models import AnomalyModels
from agent.edgeapi.lookout.service import LookoutService
from agent.edgeapi.models import ModelPlaces, ServedModels
from agent.edgeapi.server import Server
from agent.edgeapi.sockets import UnixPlace
from agent.inference.manifest import ModelSpec, for_user, resolve
from agent.inference.plane import InferencePlane
from agent.mqtt.transport import Transport
from agent.users import Identity

__all__ = ["Surroundings", "edge_manager", "lookout"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The agent's other parts, which servers work with."""

    thing: str
    data_dir: Path
    folder: Path
    """Where relative paths of the configuration start."""
    plane: InferencePlane
    transports: Mapping[str, Transport] = field(default_factory=dict)
    report: Callable[[str, Any], None] = lambda _key, _fact: None
    """Has a fact stand on the status topic."""
    components: Callable[[], Mapping[str, ModelSpec]] = dict
    """Component → its model, of those that are deployed now."""
    user: Identity | None = None
    """Whom workers run as."""


@asynccontextmanager
async def edge_manager(
    here: Surroundings, options: EdgeManagerOptions, *, working: Path | None = None
) -> AsyncIterator[None]:
    """Serve SageMaker Edge Manager's clients until left; relative models start at ``working``."""
    roots = tuple(here.folder / root for root in options.model_roots)
    places = ModelPlaces(working or here.folder, roots, here.components, here.user)
    models = ServedModels("edge-manager", here.plane, places, ModelOptions(source="."))
    service = EdgeManagerService(models, here.plane, writable_segments=options.writable_segments)
    server = Server(
        [_place(here, options, "edge-manager.sock")], [service.interface],
        max_message_bytes=options.max_message_bytes, at_once=options.at_once,
    )  # fmt: skip
    try:
        async with server:
            yield
    finally:
        await models.close()


@asynccontextmanager
async def lookout(here: Surroundings, options: LookoutOptions) -> AsyncIterator[None]:
    """Serve Lookout for Vision's clients until left.

    Raises ``ConfigError`` and ``ModelRefusedError`` for a model of the configuration that is none.
    """
    configured = {name: for_user(resolve(model, here.folder), here.user) for name, model in options.models.items()}
    models = AnomalyModels(here.plane, here.components, configured)
    server = Server(
        [_place(here, options, "lookout.sock")], [LookoutService(models).interface],
        max_message_bytes=options.max_message_bytes, at_once=options.at_once,
    )  # fmt: skip
    try:
        async with server:
            yield
    finally:
        await models.close()


def _place(here: Surroundings, options: SocketOptions, usual: str) -> UnixPlace:
    base, named = (here.folder, options.socket) if options.socket else (here.data_dir, usual)
    return UnixPlace.parse(named, base, group=options.group, everybody=options.everybody)
