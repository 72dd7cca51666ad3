"""The composition root: a configuration in, a running agent out.

What a configuration comes to is made first (``prepare``), so that what is wrong with it is found before anything runs.
Then the parts are entered against the direction of the frames: transports, status, models, streams.  Leaving is the
mirror image: first no more frames, then the workers, then the brokers, which get the last results and the goodbye.
The parts of deployments are put together in ``agent.greengrass.wiring``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from agent.config.deployments import DeploymentOptions
from agent.config.load import Config
from agent.config.secrets import missing_files
from agent.errors import VergeError
from agent.inference.alone import loaded
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.plane import InferencePlane
from agent.inference.tuning.tuner import Tuner
from agent.inference.values import PoolStatus
from agent.mqtt.factory import create
from agent.mqtt.transport import Transport
from agent.results import formats
from agent.results.formats import Context
from agent.status.board import StatusBoard
from agent.status.transports import TransportStatusPublisher
from agent.streams.streams import Streams
from agent.topics import Topics

__all__ = ["Agent", "Prepared", "check", "prepare", "running"]


log = logging.getLogger("agent")


class Agent:
    """The parts of a running agent, by name."""

    def __init__(self, config: Config, transports: Mapping[str, Transport]) -> None:
        self.config = config
        self.transports = transports
        self.board: StatusBoard
        self.plane: InferencePlane
        self.streams: Streams


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a configuration comes to before anything runs: transports that are not connected, models to be loaded."""

    transports: Mapping[str, Transport]
    models: Mapping[str, ModelSpec]


def prepare(config: Config) -> tuple[Prepared, tuple[VergeError, ...]]:
    """Everything that can be made of a configuration, and every error in the rest, with its path.

    Nothing is connected, started or written.
    """
    errors: list[VergeError] = []
    transports: dict[str, Transport] = {}
    models: dict[str, ModelSpec] = {}
    for name, link in config.transports.items():
        path = f"transports.{name}"
        if missing := [*missing_files(link, path)]:
            errors += missing
            continue
        with _collected(errors, path):
            will = StatusBoard.will(config.thing, _topics(config)) if name == _reporting(config) else None
            transports[name] = create(name, link, will=will, folder=Path(config.data_dir))
    for name, options in config.models.items():
        with _collected(errors, f"models.{name}"):
            models[name] = resolve(options, config.folder)
    for name, stream in config.streams.items():
        for number, output in enumerate(stream.outputs):
            with _collected(errors, f"streams.{name}.outputs[{number}].format"):
                formats.load(output.format)
    if config.deployments is not None:
        # Imported here: an agent that takes no deployments does not carry what they need.
        from agent.greengrass import wiring  # noqa: PLC0415

        data_dir = Path(config.data_dir)
        errors += wiring.problems(
            config.deployments, config.aws, thing=config.thing, folder=config.folder, data_dir=data_dir
        )
    return Prepared(transports, models), tuple(errors)


async def check(config: Config) -> tuple[VergeError, ...]:
    """Everything for which ``running`` would refuse the configuration; its models are loaded, one after the other."""
    prepared, problems = prepare(config)
    errors = [*problems]
    for name, spec in prepared.models.items():
        with _collected(errors, f"models.{name}"):
            # A second worker proves nothing more.
            async with loaded(replace(spec, run=replace(spec.run, workers=1))):
                pass
    return tuple(errors)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Agent]:
    """An agent at work until the context is left; raises ``InvalidInputError`` for what cannot start.

    A model that cannot be loaded stops the start: a typing error should be seen at once, not in a topic.
    """
    prepared, errors = prepare(config)
    if errors:
        for error in errors[1:]:
            log.error("%s: %s", error.path, error)
        raise errors[0]
    agent = Agent(config, prepared.transports)
    try:
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
            await _enter(agent, prepared.models, tasks, stack)
            yield agent
    except BaseExceptionGroup as group:
        raise _only_error(group) from None


@contextmanager
def _collected(errors: list[VergeError], path: str) -> Iterator[None]:
    """Go on behind an error of ours, which is kept with its path."""
    try:
        yield
    except VergeError as error:
        errors.append(error.within(path))


def _topics(config: Config) -> Topics:
    return Topics(config.thing, config.status.prefix)


def _reporting(config: Config) -> str:
    """The transport on which the agent reports its state."""
    return config.status.transport or config.first_transport


async def _enter(agent: Agent, specs: Mapping[str, ModelSpec], tasks: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
    config = agent.config
    topics = _topics(config)
    for transport in agent.transports.values():
        await stack.enter_async_context(transport)
    agent.board = await stack.enter_async_context(
        StatusBoard(config.thing, topics, agent.transports[_reporting(config)], config.status.statistics_interval_s)
    )
    agent.plane = await stack.enter_async_context(_plane(agent, tasks))
    agent.streams = await stack.enter_async_context(_streams(agent))
    await asyncio.gather(*(agent.plane.load(name, spec) for name, spec in specs.items()))
    for name, stream in config.streams.items():
        await agent.streams.add(name, stream, Context.of(specs[stream.model].manifest.options))
    if config.deployments is not None:
        await _deployments(agent, config.deployments, topics, tasks, stack)
    links = TransportStatusPublisher(
        topics, agent.transports, agent.board.retain, interval_s=config.status.statistics_interval_s
    )
    for telling in (agent.board.run(), links.run()):
        stack.callback(tasks.create_task(telling, name="agent.status.board").cancel)
    agent.board.ready()


async def _deployments(
    agent: Agent, options: DeploymentOptions, topics: Topics, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> None:
    # Imported here: an agent that takes no deployments does not carry what they need.
    from agent.greengrass import wiring  # noqa: PLC0415

    config = agent.config
    name = options.transport or config.first_transport
    here = wiring.Surroundings(
        config.thing, Path(config.data_dir), config.folder, topics, agent.transports[name], config.transports[name],
        agent.plane, agent.streams, agent.board,
        aws=config.aws, greengrass=config.greengrass, downloads=config.artifacts,
    )  # fmt: skip
    await wiring.enter(here, options, tasks, stack)


def _plane(agent: Agent, tasks: asyncio.TaskGroup) -> InferencePlane:
    def changed(name: str, status: PoolStatus) -> None:
        agent.board.model(name, status)
        agent.streams.model_changed(name, status)

    config = agent.config
    data_dir = Path(config.data_dir)
    return InferencePlane(
        tasks,
        data_dir / "quarantine",
        limits=config.limits,
        placer=Tuner(data_dir, budget_s=config.tuning_budget_s),
        changed=changed,
        fell_back=agent.board.remark,
    )


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
