"""The parts of the deployment side, put together; imported only where the configuration asks for deployments."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.aws.credentials import CredentialsProvider
from agent.aws.jobs.client import JobsClient, ShadowClient
from agent.aws.jobs.execution import Job
from agent.aws.jobs.topics import GREENGRASS, JobTopics
from agent.config.aws import AwsOptions, GreengrassOptions
from agent.config.deployments import DeploymentOptions, StoreOptions
from agent.config.load import Config
from agent.config.transports import TransportOptions
from agent.errors import VergeError
from agent.greengrass import account
from agent.greengrass.account import Operation
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.fetch import Fetcher
from agent.greengrass.artifacts.store import AwsStoreOptions
from agent.greengrass.components.spec import RunAs
from agent.greengrass.components.states import ComponentStatus
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.activation import Live
from agent.greengrass.deployments.bulletin import Bulletin, told
from agent.greengrass.deployments.catalogue import BUILTINS, NUCLEUS
from agent.greengrass.deployments.keys import trusted
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import Ledger, LedgerError
from agent.greengrass.deployments.library import Library
from agent.greengrass.deployments.plan import Kind
from agent.greengrass.deployments.providing import Environments
from agent.greengrass.deployments.request import Source
from agent.greengrass.deployments.requesters import JobAsker, ShadowAsker
from agent.greengrass.deployments.service import Arrival, Desk
from agent.greengrass.deployments.status import Scene, standing
from agent.greengrass.deployments.transaction import Deployer
from agent.greengrass.deployments.trust import Link
from agent.greengrass.fleet.messages import Device
from agent.greengrass.fleet.roster import roster
from agent.greengrass.fleet.service import FleetStatus, Roster, health_topic
from agent.greengrass.recipes import platform
from agent.inference.environments.provider import Provider
from agent.inference.plane import InferencePlane
from agent.inference.tuning.tuner import Tuner
from agent.mqtt.transport import Transport
from agent.status.board import StatusBoard
from agent.streams.stream import Stream
from agent.streams.streams import Streams
from agent.topics import Topics

if TYPE_CHECKING:
    from agent.greengrass.cloud.client import DataPlane

__all__ = ["Surroundings", "enter", "problems"]

_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the deployment side finds: the agent's other parts."""

    thing: str
    data_dir: Path
    folder: Path
    topics: Topics
    transport: Transport
    link: TransportOptions
    plane: InferencePlane
    tuner: Tuner
    streams: Streams
    board: StatusBoard
    aws: AwsOptions | None
    greengrass: GreengrassOptions
    downloads: StoreOptions


def problems(config: Config) -> list[VergeError]:
    """What ``enter`` would refuse of a configuration with deployments, each error with its path."""
    errors: list[VergeError] = []
    options = config.deployments or DeploymentOptions()
    for number, key in enumerate(options.trusted_keys):
        try:
            trusted((key,), config.folder)
        except VergeError as error:
            errors.append(error.within(f"deployments.trusted_keys[{number}]"))
    try:
        account.check(config.aws, config.thing)
    except VergeError as error:
        errors.append(error.within("aws"))
    data_dir = Path(config.data_dir)
    place = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        hint = "set data_dir to a folder that the agent's user may write"
        errors.append(LedgerError(f"nothing can be kept in {data_dir}", hint=hint, path="data_dir"))
    return errors


async def enter(
    here: Surroundings, options: DeploymentOptions, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> Desk:
    """Make the active set live and take deployments until the stack is left."""
    layout = Layout(here.data_dir)
    ledger = await stack.enter_async_context(Ledger(layout.ledger))
    supervisor = await stack.enter_async_context(_supervisor(here, options, layout))
    link = here.transport, here.link
    owned = await account.enter(here.aws, here.thing, link, supervisor, tasks, stack)
    live = Live(here.plane, here.tuner, here.streams, supervisor, settle_s=options.settle_s)
    cloud = _cloud(here.greengrass)
    fetcher = Fetcher(Cache(layout.cache, max_bytes=options.cache_bytes), _stores(here, owned.credentials, cloud))
    deployer = Deployer(
        here.thing, layout, ledger, Library(layout.recipes), fetcher, live,
        granted=owned.granted, environments=Environments(Provider(), layout), plane=here.plane, streams=here.streams,
        attributes=platform.detect(), cloud=cloud,
        report=lambda *told: desk.report(*told),  # noqa: PLW0108 the desk is made after it
    )  # fmt: skip
    desk = Desk(
        here.thing, deployer, ledger, transport=here.transport, base=here.topics.base, link=Link.of(here.link),
        accept=options.accept, keys=trusted(options.trusted_keys, here.folder) if options.trusted_keys else {},
    )  # fmt: skip
    desk.open()
    await deployer.start()

    def present() -> dict[str, ComponentStatus]:
        return standing(_scene(here, deployer, live, supervisor))

    bulletin = Bulletin(here.board, lambda: _with_kinds(deployer, present()))
    here.board.watch(bulletin.changed)
    desk.watch(bulletin)
    bulletin.changed()
    if options.health:
        fleet = await stack.enter_async_context(
            _fleet(here, options, ledger, supervisor, lambda arns: roster(deployer.state, present(), arns))
        )
        here.board.watch(fleet.changed)
        desk.watch(fleet)
        telling = tasks.create_task(fleet.run(), name="agent.fleet")
        stack.callback(telling.cancel)
    serving = tasks.create_task(desk.serve(tasks), name="agent.desk")
    stack.push_async_callback(_ended, serving, desk)
    await _ask_aws(here, options, desk, owned.operation, stack)
    return desk


async def _ended(serving: asyncio.Task[None], desk: Desk) -> None:
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await desk.close()


def _cloud(options: GreengrassOptions) -> DataPlane | None:
    """Whoever asks Amazon's cloud for components; None where the configuration does not want that."""
    if not options.enabled:
        return None
    from agent.greengrass.cloud.client import DataPlane  # noqa: PLC0415 who does not ask the cloud does not load it

    return DataPlane(options)


def _stores(here: Surroundings, credentials: CredentialsProvider | None, cloud: DataPlane | None) -> AwsStoreOptions:
    told = msgspec.structs.asdict(here.downloads) | {"aws": here.aws or AwsOptions(), "credentials": credentials}
    if cloud is None:
        return AwsStoreOptions(**told)
    from agent.greengrass.artifacts.stores.greengrass import GreengrassStoreOptions  # noqa: PLC0415 as above

    return GreengrassStoreOptions(**told, locator=cloud)


def _scene(here: Surroundings, deployer: Deployer, live: Live, supervisor: Supervisor) -> Scene:
    return Scene(
        deployer.state,
        live.target,
        supervisor.states(),
        here.board.status,
        runtimes={name: each.description for name, each in deployer.environments.items()},
        sources={name: _trouble(here.streams[name]) for name in live.target.streams if name in here.streams},
        complaints=deployer.complaints,
    )


def _trouble(stream: Stream) -> str:
    """What a stream's source waits for or cannot do; empty while pictures come."""
    source = stream.source_status
    return f"its {source.kind} {source.name} is {source.state}: {source.reason}" if source.reason else ""


def _with_kinds(deployer: Deployer, statuses: Mapping[str, ComponentStatus]) -> dict[str, tuple[Kind, ComponentStatus]]:
    components = deployer.state.active.components
    return {name: (components[name].kind, status) for name, status in statuses.items() if name in components}


def _supervisor(here: Surroundings, options: DeploymentOptions, layout: Layout) -> Supervisor:
    nucleus = BUILTINS[NUCLEUS].version
    env = {"AWS_IOT_THING_NAME": here.thing, "GGC_VERSION": str(nucleus)}
    region = here.aws.place() if here.aws else None
    env |= {key: region or os.environ[key] for key in _REGION if region or key in os.environ}
    run_as = RunAs.parse(options.run_as) if options.run_as else None
    supervisor = Supervisor(run=layout.run, logs=layout.logs, env=env, run_as=run_as)

    def changed(status: ComponentStatus) -> None:
        if status.removed:
            here.board.forget(status.name)
            return
        here.board.component(status.name, told(status, status.since))

    supervisor.watch(changed)
    return supervisor


def _fleet(
    here: Surroundings, options: DeploymentOptions, ledger: Ledger, supervisor: Supervisor, present: Roster
) -> FleetStatus:
    found = platform.detect()
    return FleetStatus(
        here.transport, ledger, supervisor, present,
        device=Device(here.thing, found["os"], found["architecture"], str(BUILTINS[NUCLEUS].version)),
        topic=health_topic(here.thing, options.aws_prefix), cadence_s=options.health_cadence_s,
    )  # fmt: skip


async def _ask_aws(
    here: Surroundings, options: DeploymentOptions, desk: Desk, operation: Operation | None, stack: AsyncExitStack
) -> None:
    if options.jobs:
        for namespace in ("", GREENGRASS):
            topics = JobTopics(here.thing, options.aws_prefix, namespace)
            await stack.enter_async_context(_jobs(here, topics, desk, operation))
    if options.shadow:
        await stack.enter_async_context(_shadow(here, options, desk))


def _jobs(here: Surroundings, topics: JobTopics, desk: Desk, operation: Operation | None) -> JobsClient:
    def on_job(job: Job) -> None:
        if operation is not None and operation.takes(job):
            operation.begin(job, client)
            return
        key = f"{job.job_id}/{job.execution_number}"
        desk.arrive(Arrival(Source.JOB, job.document, JobAsker(client, job), key, job.job_id))

    client = JobsClient(here.transport, topics, on_job=on_job, on_cancel=lambda job: desk.cancel_job(job.job_id))
    return client


def _shadow(here: Surroundings, options: DeploymentOptions, desk: Desk) -> ShadowClient:
    client = ShadowClient(
        here.transport,
        here.thing,
        on_deployment=lambda wish: desk.arrive(
            Arrival(Source.SHADOW, wish.document, ShadowAsker(client, wish.arn), wish.arn)
        ),
        on_cancel=desk.cancel,
        nucleus_version=str(BUILTINS[NUCLEUS].version),
        prefix=options.aws_prefix,
    )
    return client
