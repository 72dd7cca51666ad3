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

from agent.config.deployments import DeploymentOptions
from agent.config.load import Config
from agent.errors import VergeError
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.plane import InferencePlane
from agent.inference.tuning.tuner import Tuner
from agent.inference.values import PoolStatus
from agent.mqtt.factory import create
from agent.mqtt.transport import Transport
from agent.results.formats import Context
from agent.status.board import StatusBoard
from agent.status.transports import Uplinks
from agent.streams.streams import Streams
from agent.topics import Topics

__all__ = ["Agent", "running"]


class Agent:
    """The parts of a running agent, by name."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.transports: dict[str, Transport] = {}
        self.board: StatusBoard
        self.plane: InferencePlane
        self.tuner: Tuner
        self.streams: Streams


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Agent]:
    """An agent at work until the context is left; raises ``InvalidInputError`` for what cannot start.

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
    data_dir = Path(config.data_dir)
    told_by = config.status.transport or config.first_transport
    for name, options in config.transports.items():
        will = StatusBoard.will(config.thing, topics) if name == told_by else None
        agent.transports[name] = await stack.enter_async_context(create(name, options, will=will, folder=data_dir))
    agent.board = await stack.enter_async_context(
        StatusBoard(config.thing, topics, agent.transports[told_by], config.status.statistics_interval_s)
    )
    agent.plane = await stack.enter_async_context(_plane(agent, tasks))
    agent.tuner = Tuner(agent.plane, data_dir, budget_s=config.tuning_budget_s, fell=agent.board.remark)
    agent.streams = await stack.enter_async_context(_streams(agent))
    await asyncio.gather(*(agent.tuner.load(name, spec) for name, spec in specs.items()))
    for name, stream in config.streams.items():
        await agent.streams.add(name, stream, Context.of(specs[stream.model].manifest.options))
    if config.deployments is not None:
        await _deployments(agent, config.deployments, topics, tasks, stack)
    uplinks = Uplinks(topics, agent.transports, agent.board.retain, interval_s=config.status.statistics_interval_s)
    for telling in (agent.board.run(), uplinks.run()):
        stack.callback(tasks.create_task(telling, name="agent.status.board").cancel)
    agent.board.ready()


async def _deployments(
    agent: Agent, options: DeploymentOptions, topics: Topics, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> None:
    # Imported here: an agent that takes no deployments does not carry what they need.
    from agent.greengrass import wiring as parts  # noqa: PLC0415

    config = agent.config
    name = options.transport or config.first_transport
    here = parts.Surroundings(
        config.thing, Path(config.data_dir), config.folder, topics, agent.transports[name], config.transports[name],
        agent.plane, agent.tuner, agent.streams, agent.board,
        aws=config.aws, greengrass=config.greengrass, downloads=config.artifacts,
    )  # fmt: skip
    await parts.enter(here, options, tasks, stack)


def _plane(agent: Agent, tasks: asyncio.TaskGroup) -> InferencePlane:
    def changed(name: str, status: PoolStatus) -> None:
        agent.board.model(name, status)
        agent.streams.model_changed(name, status)

    quarantine = Path(agent.config.data_dir) / "quarantine"
    return InferencePlane(tasks, quarantine, limits=agent.config.limits, changed=changed)


def _streams(agent: Agent) -> Streams:
    config = agent.config
    return Streams(
        config.thing,
        agent.plane,
        agent.transports,
        config.folder,
        limits=config.limits,
        room=lambda transport: config.transports[transport].receive_maximum,
        added=agent.board.add,
        removed=agent.board.remove,
        changed=agent.board.changed,
    )


def _only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of our own errors when there is nothing else in the group, the group otherwise."""
    _, others = group.split(VergeError)
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return group if others else first
