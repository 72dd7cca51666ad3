"""The composition root: a configuration in, a running agent out; the only module that knows every package.

Parts are entered in the order of the first sentence read backwards: whoever takes is there before whoever
gives.  Leaving is the mirror image: first no more frames, then the workers, then the brokers, which hear the
last results and the goodbye.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from agent.config import Config
from agent.errors import VergeError
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.plane import InferencePlane
from agent.inference.values import PoolState, PoolStatus
from agent.results.formats import Context
from agent.status import StatusBoard, StreamReport
from agent.streams.options import StreamOptions
from agent.streams.outlet import Outlet
from agent.streams.queue import Policy
from agent.streams.stream import Stream
from agent.topics import Topics
from agent.transport.base import Transport
from agent.transport.factory import create

__all__ = ["Agent", "running"]


class Agent:
    """The parts of a running agent, by name."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.transports: dict[str, Transport] = {}
        self.streams: dict[str, Stream] = {}
        self.plane: InferencePlane
        self.board: StatusBoard


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Agent]:
    """An agent at work until the context is left; raises ``ConfigWrong`` or ``ModelRefused`` for what cannot start.

    A model that cannot be loaded stops the start: a typing error should be seen at once, not in a topic.
    """
    specs = {name: resolve(options, config.folder) for name, options in config.models.items()}
    agent = Agent(config)
    try:
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
            await _enter(agent, specs, tasks, stack)
            yield agent
    except BaseExceptionGroup as group:
        raise _only_error(group) from None


async def _enter(agent: Agent, specs: Mapping[str, ModelSpec], tasks: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
    config = agent.config
    topics = Topics(config.thing, config.status.prefix)
    told_by = config.status.transport or config.first_transport
    for name, options in config.transports.items():
        will = StatusBoard.will(config.thing, topics) if name == told_by else None
        agent.transports[name] = await stack.enter_async_context(create(name, options, will=will))
    agent.board = await stack.enter_async_context(
        StatusBoard(config.thing, topics, agent.transports[told_by], config.status)
    )
    agent.plane = await stack.enter_async_context(
        InferencePlane(
            tasks,
            Path(config.data_dir) / "quarantine",
            limits=config.limits.limits(),
            changed=lambda name, status: _model_changed(agent, name, status),
        )
    )
    await asyncio.gather(*(agent.plane.load(name, spec) for name, spec in specs.items()))
    for name, stream_options in config.streams.items():
        agent.streams[name] = await stack.enter_async_context(_stream(agent, name, stream_options, specs))
    telling = tasks.create_task(agent.board.run(), name="agent.status")
    stack.callback(telling.cancel)


def _stream(agent: Agent, name: str, options: StreamOptions, specs: Mapping[str, ModelSpec]) -> Stream:
    config = agent.config
    source = replace(options.input, transport=options.input.transport or config.first_transport)
    options = replace(options, input=source)
    if options.policy is Policy.ALL:
        # What the broker may send unacknowledged always finds room; that is what makes the source wait.
        room = config.transports[source.transport].receive_maximum
        options = replace(options, depth=max(options.depth, room))
    told = specs[options.model].manifest.options
    usual = Context()
    context = Context(told.get("top_k", usual.top_k), told.get("threshold", usual.threshold))
    outlet = Outlet(name, config.thing, options, agent.transports, config.folder, context)
    stream = Stream(
        name,
        options,
        plane=agent.plane,
        transport=agent.transports[options.input.transport],
        outlet=outlet,
        limits=config.limits.limits(),
        changed=agent.board.changed,
    )
    agent.board.add(StreamReport(name, stream.tally, lambda: agent.board.status(options.model), lambda: outlet.lost))
    return stream


def _model_changed(agent: Agent, name: str, status: PoolStatus) -> None:
    agent.board.model(name, status)
    if status.state is PoolState.BROKEN:
        for stream in agent.streams.values():
            if stream.options.model == name:
                stream.fail_waiting()


def _only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of our own errors when there is nothing else in the group, the group otherwise."""
    _, others = group.split(VergeError)
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return group if others else first
