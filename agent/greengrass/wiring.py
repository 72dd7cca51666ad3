"""The deployment side, put together; imported only where the configuration asks for deployments.

What a device with an AWS account brings (credentials for components and stores, the rotation of its certificate) is
loaded only where it is asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.aws.credentials import CredentialsProvider
from agent.aws.jobs.topics import GREENGRASS, JobTopics
from agent.config.aws import AwsOptions, GreengrassOptions
from agent.config.deployments import DeploymentOptions, StoreOptions
from agent.config.transports import TransportOptions
from agent.errors import VergeError
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.fetch import Fetcher
from agent.greengrass.artifacts.store import AwsStoreOptions
from agent.greengrass.components.spec import RunAs
from agent.greengrass.components.states import ComponentStatus
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.activation import Activator
from agent.greengrass.deployments.keys import trusted
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import Ledger, LedgerError
from agent.greengrass.deployments.repository import BUILTINS, NUCLEUS, RecipeStore
from agent.greengrass.deployments.requesters import JobHandler, jobs_client, shadow_client
from agent.greengrass.deployments.service import DeploymentService
from agent.greengrass.deployments.status import ComponentStatusPublisher, component_payload, component_statuses, observe
from agent.greengrass.deployments.target import EnvironmentManager
from agent.greengrass.deployments.transaction import Workspace
from agent.greengrass.deployments.trust import Link, TrustPolicy
from agent.greengrass.fleet.messages import DeviceFacts
from agent.greengrass.fleet.report import ComponentHealth
from agent.greengrass.fleet.service import FleetStatus, HealthSource, component_health, health_topic
from agent.greengrass.recipes import platform
from agent.inference.environments.provider import Provider
from agent.inference.plane import InferencePlane
from agent.mqtt.transport import Transport
from agent.status.board import StatusBoard
from agent.streams.streams import Streams
from agent.topics import Topics

if TYPE_CHECKING:
    from agent.greengrass.cloud.client import DataPlane

__all__ = ["Surroundings", "enter", "problems"]

_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The agent's other parts, which deployments work with."""

    thing: str
    data_dir: Path
    folder: Path
    topics: Topics
    transport: Transport
    link: TransportOptions
    plane: InferencePlane
    streams: Streams
    board: StatusBoard
    aws: AwsOptions | None
    greengrass: GreengrassOptions
    downloads: StoreOptions


def problems(
    options: DeploymentOptions, aws: AwsOptions | None, *, thing: str, folder: Path, data_dir: Path
) -> list[VergeError]:
    """What ``enter`` would refuse of a configuration with deployments, every error with its path."""
    errors: list[VergeError] = []
    for number, key in enumerate(options.trusted_keys):
        try:
            trusted((key,), folder)
        except VergeError as error:
            errors.append(error.within(f"deployments.trusted_keys[{number}]"))
    try:
        _credentials(aws, thing)
    except VergeError as error:
        errors.append(error.within("aws"))
    place = next(path for path in (data_dir, *data_dir.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        hint = "set data_dir to a folder that the agent's user may write"
        errors.append(LedgerError(f"nothing can be kept in {data_dir}", hint=hint, path="data_dir"))
    return errors


async def enter(
    here: Surroundings, options: DeploymentOptions, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> DeploymentService:
    """Make the active set live and take deployments until the stack is left."""
    layout = Layout(here.data_dir)
    ledger = await stack.enter_async_context(Ledger(layout.ledger))
    supervisor = await stack.enter_async_context(_supervisor(here, options, layout))
    account = await _account(here, supervisor, tasks, stack)
    activator = Activator(here.plane, here.streams, supervisor, settle_s=options.settle_s)
    workspace = _workspace(here, options, layout, activator, account)
    trust = TrustPolicy(Link.of(here.link), options.accept, trusted(options.trusted_keys, here.folder))
    service = DeploymentService(workspace, ledger, here.transport, here.topics, trust)
    await service.open()
    view = partial(observe, service, activator, here.board.status)
    publisher = ComponentStatusPublisher(here.board, view)
    here.board.watch(publisher.changed)
    service.listen(publisher)
    publisher.changed()
    if options.health:

        def current_health(arns: Mapping[str, str]) -> Mapping[str, ComponentHealth]:
            return component_health(service.state.current, component_statuses(view()), arns)

        fleet = await stack.enter_async_context(_fleet(here, options, ledger, supervisor, current_health))
        here.board.watch(fleet.changed)
        service.listen(fleet)
        sending = tasks.create_task(fleet.run(), name="agent.fleet")
        stack.callback(sending.cancel)
    serving = tasks.create_task(service.serve(tasks), name="agent.greengrass.deployments.serve")
    stack.push_async_callback(_leave, serving, service)
    await _take_from_aws(here, options, service, account.operation, stack)
    return service


async def _leave(serving: asyncio.Task[None], service: DeploymentService) -> None:
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await service.close()


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
        here.board.component(status.name, component_payload(status, status.since))

    supervisor.watch(changed)
    return supervisor


def _workspace(
    here: Surroundings, options: DeploymentOptions, layout: Layout, activator: Activator, account: _Account
) -> Workspace:
    cloud = _cloud(here.greengrass)
    cache = Cache(layout.cache, max_bytes=options.cache_bytes)
    return Workspace(
        here.thing,
        layout,
        recipes=RecipeStore(layout.recipes),
        fetcher=Fetcher(cache, _stores(here, account.credentials, cloud)),
        environments=EnvironmentManager(Provider(), layout),
        activator=activator,
        attributes=platform.detect(),
        granted=account.granted,
        cloud=cloud,
    )


def _cloud(options: GreengrassOptions) -> DataPlane | None:
    """The client that asks Amazon's cloud for components; None where the configuration does not want that."""
    if not options.enabled:
        return None
    from agent.greengrass.cloud.client import DataPlane  # noqa: PLC0415 only for those who ask the cloud

    return DataPlane(options)


def _stores(here: Surroundings, credentials: CredentialsProvider | None, cloud: DataPlane | None) -> AwsStoreOptions:
    options = msgspec.structs.asdict(here.downloads) | {"aws": here.aws or AwsOptions(), "credentials": credentials}
    if cloud is None:
        return AwsStoreOptions(**options)
    from agent.greengrass.artifacts.stores.greengrass import GreengrassStoreOptions  # noqa: PLC0415 as above

    return GreengrassStoreOptions(**options, locator=cloud)


def _fleet(
    here: Surroundings, options: DeploymentOptions, ledger: Ledger, supervisor: Supervisor, current_health: HealthSource
) -> FleetStatus:
    attributes = platform.detect()
    return FleetStatus(
        here.transport, ledger, supervisor, current_health,
        device=DeviceFacts(here.thing, attributes["os"], attributes["architecture"], str(BUILTINS[NUCLEUS].version)),
        topic=health_topic(here.thing, options.aws_prefix), cadence_s=options.health_cadence_s,
    )  # fmt: skip


async def _take_from_aws(
    here: Surroundings, options: DeploymentOptions, service: DeploymentService, operation: JobHandler | None,
    stack: AsyncExitStack,
) -> None:  # fmt: skip
    """Take deployments from jobs and from the deployment shadow."""
    if options.jobs:
        for namespace in ("", GREENGRASS):
            topics = JobTopics(here.thing, options.aws_prefix, namespace)
            await stack.enter_async_context(
                jobs_client(here.transport, topics, service.submit, service.cancel_job, operation)
            )
    if options.shadow:
        prefix = options.aws_prefix
        await stack.enter_async_context(
            shadow_client(here.transport, here.thing, prefix, service.submit, service.cancel)
        )


# -- what an AWS account brings ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Account:
    """Nothing of it on a device without one."""

    credentials: CredentialsProvider | None = None
    granted: Mapping[str, str] = field(default_factory=dict)
    """The environment of components that may ask the agent for the device's credentials."""
    operation: JobHandler | None = None
    """The rotation of the device's certificate."""


async def _account(
    here: Surroundings, supervisor: Supervisor, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> _Account:
    """The account of the thing; its servers run until the stack is left.  Raises ``ConfigError``."""
    operation = _rotation(here, tasks, stack)
    credentials = _credentials(here.aws, here.thing)
    granted = await _granted(credentials, supervisor, stack) if credentials is not None else {}
    return _Account(credentials, granted, operation)


def _credentials(aws: AwsOptions | None, thing: str) -> CredentialsProvider | None:
    """The device's own credentials at AWS, if it has any; raises ``ConfigError``."""
    if aws is None:
        return None
    from agent.aws.iot import IotCredentials  # noqa: PLC0415

    return IotCredentials.of(aws, thing)


async def _granted(
    credentials: CredentialsProvider, supervisor: Supervisor, stack: AsyncExitStack
) -> Mapping[str, str]:
    from agent.aws.tes.exchange import URI_VARIABLE  # noqa: PLC0415
    from agent.aws.tes.server import TokenExchange  # noqa: PLC0415

    def may(token: str) -> bool:
        holder = supervisor.holder(token)
        return holder is not None and URI_VARIABLE in holder.env

    exchange = await stack.enter_async_context(TokenExchange(credentials, may))
    return exchange.env


def _rotation(here: Surroundings, tasks: asyncio.TaskGroup, stack: AsyncExitStack) -> JobHandler | None:
    provisioned = here.link.provisioned
    if provisioned is None:
        return None
    from agent.aws.provision.rotate import Rotation  # noqa: PLC0415

    rotation = Rotation(here.thing, provisioned, here.transport, tasks)
    stack.push_async_callback(rotation.close)
    return rotation
