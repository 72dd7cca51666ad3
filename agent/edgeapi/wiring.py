"""The servers put together; imported only where the configuration or a component asks for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from agent.config.aws import AwsOptions
from agent.config.edgeapi import EdgeManagerOptions, LookoutOptions, SocketOptions
from agent.config.models import ModelOptions
from agent.disk import FolderLock
from agent.edgeapi import buckets
from agent.edgeapi.edge_manager.capturing import capturing
from agent.edgeapi.edge_manager.heartbeat import Heartbeat, Registration
from agent.edgeapi.edge_manager.package import packaged
from agent.edgeapi.edge_manager.service import EdgeManagerService
from agent.edgeapi.edge_manager.tensors import check
from agent.edgeapi.lookout.models import AnomalyModels
from agent.edgeapi.lookout.service import LookoutService
from agent.edgeapi.models import ModelPlaces, ServedModels
from agent.edgeapi.server import Server
from agent.edgeapi.sharedmemory import Sharers
from agent.edgeapi.sockets import UnixPlace
from agent.edgeapi.surroundings import Surroundings
from agent.files import under
from agent.inference.manifest import for_user, resolve

__all__ = ["Surroundings", "edge_manager", "lookout"]

_HOME = "edge-manager"


@asynccontextmanager
async def edge_manager(
    here: Surroundings, options: EdgeManagerOptions, *, working: Path | None = None, replace: bool = True
) -> AsyncIterator[Path]:
    """Serve SageMaker Edge Manager's clients at the path that is given, until left.

    Relative models start at ``working``; ``replace`` takes what a dead server left at the socket.
    """
    roots = tuple(under(here.folder, root) for root in options.model_roots)
    shared = bool(options.group) or options.everybody
    places = ModelPlaces(working or here.folder, roots, here.components, here.user, shared)
    models = ServedModels(
        _HOME, here.plane, places, ModelOptions(source="."), packaged,
        check=check, forget=here.forget, most=options.max_models,
    )  # fmt: skip
    socket = _place(here, options, "edge-manager.sock", replace=replace)
    home = here.data_dir / _HOME
    changed = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(FolderLock(home))
        capture = await stack.enter_async_context(
            capturing(
                options.capture, _device(here, options), options.fleet, here.folder, home, options.group,
                lambda: buckets.s3(here.aws or AwsOptions(), here.credentials),
            )
        )  # fmt: skip
        stack.push_async_callback(models.close)
        service = EdgeManagerService(
            models, here.plane, capture, writable_segments=options.writable_segments,
            sharers=_sharers(options), most_bytes=options.max_message_bytes, changed=changed.set,
        )  # fmt: skip
        heartbeat = Heartbeat(
            home / "registration.json",
            Registration(device=_device(here, options), fleet=options.fleet, thing=here.thing),
            here.retain,
            lambda: ((one, here.plane.status(one.key).state.value, service.predictions[one.name]) for one in models),
            lambda: (options.capture.destination, capture.report),
            changed,
        )
        beating = asyncio.create_task(heartbeat.run(), name="agent.edgeapi.edge_manager.heartbeat")
        stack.push_async_callback(_end, beating)
        await stack.enter_async_context(
            Server([socket], [service.interface], max_message_bytes=options.max_message_bytes, at_once=options.at_once)
        )
        yield socket.path


@asynccontextmanager
async def lookout(here: Surroundings, options: LookoutOptions) -> AsyncIterator[None]:
    """Serve Lookout for Vision's clients until left.

    Raises ``ConfigError`` and ``ModelRefusedError`` for a model of the configuration that is none.
    """
    configured = {name: for_user(resolve(model, here.folder), here.user) for name, model in options.models.items()}
    models = AnomalyModels(here.plane, here.components, configured, here.forget)
    server = Server(
        [_place(here, options, "lookout.sock")], [LookoutService(models, _sharers(options)).interface],
        max_message_bytes=options.max_message_bytes, at_once=options.at_once,
    )  # fmt: skip
    try:
        async with server:
            yield
    finally:
        await models.close()


def _device(here: Surroundings, options: EdgeManagerOptions) -> str:
    return options.device or here.thing


def _place(here: Surroundings, options: SocketOptions, usual: str, *, replace: bool = True) -> UnixPlace:
    base, named = (here.folder, options.socket) if options.socket else (here.data_dir, usual)
    return UnixPlace.parse(named, base, group=options.group, everybody=options.everybody, replace=replace)


def _sharers(options: SocketOptions) -> Sharers:
    return Sharers.of(options.group, everybody=options.everybody)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
