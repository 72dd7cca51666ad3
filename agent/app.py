"""The composition root: a configuration in, a running agent out.

What a configuration comes to is made first (``prepare``), so that what is wrong with it is found before anything runs.
Then the parts are entered against the direction of the frames: transports, status, models, streams.  Leaving is the
mirror image: first no more frames, then the workers, then the brokers, which get the last results and the goodbye.
The parts of deployments are put together in ``agent.greengrass.wiring``.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from agent.aws.credentials import CredentialsProvider
from agent.config.deployments import DeploymentOptions
from agent.config.load import Config, Reading
from agent.config.reload import Reload, difference
from agent.config.secrets import missing_files
from agent.edgeapi.needed import servers, serving_problems
from agent.edgeapi.surroundings import Surroundings
from agent.errors import VergeError
from agent.inference.alone import loaded
from agent.inference.manifest import ModelSpec, for_user, resolve, stamp
from agent.inference.plane import InferencePlane
from agent.inference.tuning.tuner import Tuner
from agent.inference.values import PoolStatus
from agent.mqtt.factory import create
from agent.mqtt.replies import AnswerTopics
from agent.mqtt.transport import Transport
from agent.results import formats
from agent.results.formats import Context
from agent.status.board import StatusBoard
from agent.status.folder import DataFolder
from agent.status.ghosts import Ghosts
from agent.status.presence import Presence
from agent.status.transports import TransportStatusPublisher
from agent.streams.streams import Streams
from agent.topics import Topics
from agent.users import Identity, worker_user

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
        self.stopping_s: Callable[[], float] = lambda: 0.0
        """How long components may take to shut down."""
        self.deployed: Callable[[], Mapping[str, ModelSpec]] = dict
        """Component → its model, of those that are deployed now."""
        self.reloading: asyncio.Queue[Callable[[], Reading]] = asyncio.Queue(1)
        self.retrust: list[Callable[[DeploymentOptions], None]] = []
        """Whoever takes other trusted keys."""
        self.leaving: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The exit status with which the agent wants to be started again, once it does."""

    def reload(self, read: Callable[[], Reading]) -> None:
        """Have the running agent take what has changed in its configuration; one that is wrong changes nothing."""
        if self.reloading.empty():  # one that waits reads what is there then
            self.reloading.put_nowait(read)

    def leave(self, status: int) -> None:
        """Ask whoever runs the agent to end it with this exit status."""
        if not self.leaving.done():
            self.leaving.set_result(status)


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
    user = None
    with _collected(errors, "deployments.run_as"):
        user = _user(config)
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
            models[name] = for_user(resolve(options, config.folder), user)
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
    errors += _refused_of_servers(config)
    return Prepared(transports, models), tuple(errors)


def _refused_of_servers(config: Config) -> list[VergeError]:
    """What the interfaces for programs would refuse of the configuration."""
    errors: list[VergeError] = []
    for word in ("edge_manager", "lookout"):
        if getattr(config, word) is not None:
            with _collected(errors, word):
                servers()
    if config.edge_manager is not None:
        with _collected(errors, "edge_manager.capture"):
            config.edge_manager.capture.check()
    for name, options in (config.lookout.models if config.lookout else {}).items():
        with _collected(errors, f"lookout.models.{name}"):
            resolve(options, config.folder)
    if config.serving is not None:
        errors += serving_problems(config.serving)
    return errors


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
    _say_who_runs(prepared.models)
    agent = Agent(config, prepared.transports)
    try:
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
            folder = stack.enter_context(DataFolder(Path(config.data_dir), config.thing))
            await _enter(agent, folder, prepared.models, tasks, stack)
            yield agent
    except BaseExceptionGroup as group:
        raise _only_error(group) from None


def _say_who_runs(models: Mapping[str, ModelSpec]) -> None:
    """Where the agent is root, which models its configuration lets run as root."""
    privileged = sorted(name for name, spec in models.items() if spec.user is None) if os.geteuid() == 0 else []
    if privileged:
        log.warning(
            "the agent is root, and so are the workers of %s: they run code of their own, or no other user may read "
            "them; run the agent as a user of its own, or deploy them as components",
            ", ".join(privileged),
        )


@contextmanager
def _collected(errors: list[VergeError], path: str) -> Iterator[None]:
    """Go on behind an error of ours, which is kept with its path."""
    try:
        yield
    except VergeError as error:
        errors.append(error.within(path))


def _topics(config: Config) -> Topics:
    return Topics(config.thing, config.status.prefix)


def _answers(config: Config) -> AnswerTopics:
    """Where answers may go: what the owner says, and where commands want theirs."""
    return AnswerTopics((*config.response_topics, f"{_topics(config).answers}#"))


def _reporting(config: Config) -> str:
    """The transport on which the agent reports its state."""
    return config.status.transport or config.first_transport


async def _enter(
    agent: Agent, folder: DataFolder, specs: Mapping[str, ModelSpec], tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> None:
    config = agent.config
    topics = _topics(config)
    for transport in agent.transports.values():
        transport.hold()
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
    await _servers(agent, topics, stack)
    links = TransportStatusPublisher(
        topics, agent.transports, agent.board.retain, interval_s=config.status.statistics_interval_s
    )
    watching = folder.watch(partial(agent.board.problem, "folder"))
    for telling in (agent.board.run(), links.run(), watching):
        stack.callback(tasks.create_task(telling, name="agent.status.board").cancel)
    stack.callback(tasks.create_task(_reload(agent, dict(specs)), name="agent.reload").cancel)
    stack.callback(agent.board.leaving)
    reporting = agent.transports[_reporting(config)]
    if config.transports[_reporting(config)].reads_itself:
        stack.callback(Presence(agent.board, reporting, topics.status, config.thing).start())
        # Before what was held back is let through: a kept session may hold what an earlier process read of its topics.
        stack.callback(Ghosts(agent.board, reporting, topics).start())
    for transport in agent.transports.values():
        transport.release()
        # Whoever leaves from here on takes nothing more, and what the broker has for them is for the next process.
        stack.callback(transport.hold)
    agent.board.ready()


async def _deployments(
    agent: Agent, options: DeploymentOptions, topics: Topics, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> None:
    # Imported here: an agent that takes no deployments does not carry what they need.
    from agent.greengrass import wiring  # noqa: PLC0415

    config = agent.config
    name = options.transport or config.first_transport
    here = wiring.AgentParts(
        config.thing, Path(config.data_dir), config.folder, topics, agent.transports[name], config.transports[name],
        agent.plane, agent.streams, agent.board,
        aws=config.aws, greengrass=config.greengrass, downloads=config.artifacts, leave=agent.leave,
        answers=_answers(config), ipc=config.ipc, secrets=config.secrets,
        cloud=next((agent.transports[name] for name, one in config.transports.items() if one.kind == "iotcore"), None),
        retrust=agent.retrust.append,
    )  # fmt: skip
    service = await wiring.enter(here, options, tasks, stack)
    agent.stopping_s = lambda: service.stopping_s
    agent.deployed = service.models


async def _servers(agent: Agent, topics: Topics, stack: AsyncExitStack) -> None:
    """Serve the programs that call, on the interfaces that the configuration names."""
    config = agent.config
    if config.edge_manager is None and config.lookout is None and config.serving is None:
        return

    def retain(topic: str, payload: Any) -> None:
        agent.board.retain(f"{topics.base}/{topic}", msgspec.json.encode(payload))

    here = Surroundings(
        config.thing, Path(config.data_dir), config.folder, agent.plane, agent.transports, agent.board.state_fact,
        agent.deployed, _user(config), retain, aws=config.aws, credentials=_credentials(config), topics=topics,
        answers=_answers(config), limits=config.limits, forget=agent.board.forget,
    )  # fmt: skip
    if config.edge_manager is not None:
        await stack.enter_async_context(servers().edge_manager(here, config.edge_manager))
    if config.lookout is not None:
        await stack.enter_async_context(servers().lookout(here, config.lookout))
    if config.serving is not None:
        from agent.edgeapi.serving import serving  # noqa: PLC0415 an agent that does not serve does not carry it

        await stack.enter_async_context(serving(here, config.serving))


def _user(config: Config) -> Identity | None:
    """Whom workers run as; raises ``ConfigError``."""
    return worker_user(config.deployments.run_as if config.deployments else "")


def _credentials(config: Config) -> CredentialsProvider | None:
    """The device's own at AWS, if it has any; raises ``ConfigError``."""
    if config.aws is None:
        return None
    from agent.aws.iot import IotCredentials  # noqa: PLC0415 it loads urllib3

    return IotCredentials.of(config.aws, config.thing)


async def _reload(agent: Agent, specs: dict[str, ModelSpec]) -> None:
    """Take changed configurations, one after the other, until cancelled."""
    stamps = await asyncio.to_thread(_stamps, specs)
    while True:
        read = await agent.reloading.get()
        problem = None
        try:
            config, changed = _changed(read())
            now = await asyncio.to_thread(_stamps, changed)
            serving = specs.keys() & changed
            renewed = {name for name in serving if (specs[name], stamps.get(name)) != (changed[name], now[name])}
            await _take(agent, specs, config, changed, renewed)
            stamps = now
        except VergeError as error:
            log.error("%s", error)  # noqa: TRY400 it is a sentence for people
            problem = error
        except Exception as error:  # a fault of ours costs the reload, and not the agent
            log.exception("the configuration was not taken")
            problem = VergeError(f"the configuration was not taken: {error}", code="config-not-taken")
        agent.board.problem("configuration", problem)


def _changed(reading: Reading) -> tuple[Config, Mapping[str, ModelSpec]]:
    """A configuration that an agent could start with, and its models; raises what is said of another."""
    errors: Sequence[VergeError] = reading.errors
    if reading.config is not None and not errors:
        prepared, errors = prepare(reading.config)
        if not errors:
            return reading.config, prepared.models
    for error in errors:
        log.error("%s: %s", error.path, error)
    first = errors[0]
    raise VergeError(
        f"the changed configuration is refused, and the earlier one goes on: {first.path}: {first.message}",
        code="config-refused",
        hint="the log names every error; mend the file and reload again",
    )


async def _take(
    agent: Agent, specs: dict[str, ModelSpec], config: Config, changed: Mapping[str, ModelSpec],
    renewed: Collection[str],
) -> None:  # fmt: skip
    change = difference(agent.config, config, renewed)
    for name, model in change.models.items():
        await _take_model(agent, specs, name, changed[name])
        agent.config = replace(agent.config, models={**agent.config.models, name: model})
    if change.log_level is not None:
        logging.getLogger().setLevel(change.log_level.upper())
    for name in change.removed:
        await agent.streams.remove(name)
    for name, stream in change.streams.items():
        context = Context.of(specs[stream.model].manifest.options)
        if name in agent.streams:
            agent.streams.switch(name, stream, context).keep()
        else:
            await agent.streams.add(name, stream, context)
    for name in change.removed_models:
        await agent.plane.unload(name)
        del specs[name]
        agent.board.forget(name)
    if change.trusted_keys is not None:
        for retrust in agent.retrust:
            retrust(change.trusted_keys)
    agent.config = _taken(agent.config, config, change)
    log.info("the configuration is read again; taken: %s", ", ".join(change.taken) or "nothing")
    if change.restart:
        log.warning("these count only after a restart: %s", ", ".join(change.restart))


def _stamps(specs: Mapping[str, ModelSpec]) -> dict[str, frozenset[tuple[str, int, int]]]:
    return {name: stamp(spec) for name, spec in specs.items()}


async def _take_model(agent: Agent, specs: dict[str, ModelSpec], name: str, spec: ModelSpec) -> None:
    """Load a model that is new, or other than before; raises what keeps it from loading: the earlier one goes on."""
    try:
        await (agent.plane.reload(name, spec) if name in specs else agent.plane.load(name, spec))
    except VergeError as error:
        raise VergeError(
            f"the changed model is not taken, and the earlier one goes on: models.{name}: {error.message}",
            code="config-refused", hint=error.hint,
        ) from error  # fmt: skip
    specs[name] = spec


def _taken(old: Config, new: Config, change: Reload) -> Config:
    """The old configuration with what was taken of the new one, so that the next one is compared with what runs."""
    streams = {name: stream for name, stream in old.streams.items() if name not in change.removed}
    deployments = old.deployments
    if change.trusted_keys is not None and deployments is not None:
        deployments = replace(deployments, trusted_keys=change.trusted_keys.trusted_keys)
    return replace(
        old, log_level=new.log_level, models=new.models, streams={**streams, **change.streams}, deployments=deployments
    )


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
        memory=Path(config.data_dir) / "streams",
        limits=config.limits,
        room=lambda transport: config.transports[transport].receive_maximum,
        added=agent.board.add,
        removed=agent.board.remove,
        changed=agent.board.changed,
        answers=_answers(config),
    )


def _only_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of our own errors when there is nothing else in the group, the group otherwise."""
    _, others = group.split(VergeError)
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return group if others else first
