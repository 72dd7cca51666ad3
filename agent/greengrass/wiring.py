"""The deployment side, put together; imported only where the configuration asks for deployments.

What a device with an AWS account brings (credentials for components and stores, the rotation of its certificate) is
loaded only where it is asked for.
"""

from __future__ import annotations

import asyncio
import grp
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.aws.credentials import CredentialsProvider
from agent.aws.jobs.topics import GREENGRASS, JobTopics
from agent.config.aws import AwsOptions, GreengrassOptions
from agent.config.deployments import DeploymentOptions, StoreOptions
from agent.config.ipc import IpcOptions
from agent.config.transports import TransportOptions
from agent.config.vault import SecretOptions
from agent.edgeapi.surroundings import Surroundings
from agent.errors import ConfigError, VergeError
from agent.files import under
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.fetch import Fetcher
from agent.greengrass.artifacts.store import AwsStoreOptions
from agent.greengrass.catalog.parts import AS_NUCLEUS
from agent.greengrass.components.environment import ipc_socket, nucleus
from agent.greengrass.components.spec import RunAs
from agent.greengrass.components.states import ComponentStatus
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.activation import Activator
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import LEDGER_PROBLEMS, Ledger, LedgerError
from agent.greengrass.deployments.repository import RecipeStore
from agent.greengrass.deployments.requesters import JobHandler, Operations, jobs_client, shadow_client
from agent.greengrass.deployments.running import LiveSettings
from agent.greengrass.deployments.service import DeploymentService
from agent.greengrass.deployments.status import ComponentStatusPublisher, component_payload, component_statuses, observe
from agent.greengrass.deployments.target import EnvironmentManager
from agent.greengrass.deployments.transaction import Workspace
from agent.greengrass.fleet.messages import DeviceFacts
from agent.greengrass.fleet.report import ComponentHealth
from agent.greengrass.fleet.service import FleetStatus, HealthSource, component_health, health_topic
from agent.greengrass.recipes import platform
from agent.greengrass.services.base import Factory, Service
from agent.greengrass.trust import keylist
from agent.greengrass.trust.keylist import KeyList
from agent.greengrass.trust.keyring import Keyring, KeyringFile, KeyringJobs
from agent.greengrass.trust.keys import trusted
from agent.greengrass.trust.policy import Link, TrustPolicy
from agent.greengrass.trust.signatures import NotTrustedError, SignedContent, unsealed
from agent.greengrass.trust.watch import LinkWatch, control_topics, document_topics
from agent.inference.environments.provider import Provider
from agent.inference.plane import InferencePlane
from agent.mqtt.replies import AnswerTopics
from agent.mqtt.transport import Transport
from agent.status.board import StatusBoard
from agent.streams.streams import Streams
from agent.topics import Topics
from agent.users import Identity, worker_user

if TYPE_CHECKING:
    from agent.greengrass.cloud.client import DataPlane
    from agent.greengrass.services.secrets.manager import SecretManager

__all__ = ["AgentParts", "enter", "problems"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentParts:
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
    answers: AnswerTopics
    ipc: IpcOptions
    secrets: SecretOptions
    leave: Callable[[int], None]
    """Ends the agent with an exit status, once it has said goodbye."""
    cloud: Transport | None = None
    """The link to AWS IoT Core, where there is one."""
    retrust: Callable[[Callable[[DeploymentOptions], None]], None] = lambda _: None
    """Takes whom to call when the trusted keys of the configuration change."""


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
    if options.trust_list:
        try:
            _configured_list(options, folder)
        except VergeError as error:
            errors.append(error.within("deployments.trust_list"))
    try:
        _credentials(aws, thing)
    except VergeError as error:
        errors.append(error.within("aws"))
    # A disk that takes nothing now is no mistake: the agent runs, and its status says so.
    place = next(path for path in (data_dir, *data_dir.parents) if os.path.exists(path))  # noqa: PTH110 raises nothing
    if not place.is_dir():
        hint = "set data_dir to a folder that the agent's user may write"
        errors.append(LedgerError(f"nothing can be kept in {data_dir}", hint=hint, path="data_dir"))
    return errors


async def enter(
    here: AgentParts, options: DeploymentOptions, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> DeploymentService:
    """Make the active set live and take deployments until the stack is left."""
    layout = Layout(here.data_dir)
    try:
        await asyncio.to_thread(layout.make)
    except OSError as error:  # what needs them says so; the rest runs
        log.warning("the folders below %s cannot be made: %s", layout.root, error.strerror)

    def ledger_problems(problems: Mapping[str, LedgerError]) -> None:
        for name in LEDGER_PROBLEMS:
            here.board.problem(name, problems.get(name))

    ledger = await stack.enter_async_context(Ledger(layout.ledger, ledger_problems))
    scripts = await stack.enter_async_context(AsyncExitStack())
    supervisor = await scripts.enter_async_context(_supervisor(here, options, layout))
    account = await _account(here, supervisor, tasks, stack)
    activator = Activator(here.plane, here.streams, supervisor, settle_s=options.settle_s)
    cache = Cache(layout.cache, max_bytes=options.cache_bytes)
    workspace = _workspace(here, layout, cache, activator, account, worker_user(options.run_as))
    supervisor.guard = workspace.guard
    keyring = _keyring(here, options, layout, tasks, stack)
    service = DeploymentService(workspace, ledger, here.transport, here.topics, keyring, here.leave, here.answers)
    view = partial(observe, service, activator, here.board.status)
    await _serve_components(
        here, options, layout, service, account.credentials, lambda: component_statuses(view()), tasks, stack
    )
    # Scripts that shut down may still speak with the agent.
    stack.push_async_exit(scripts.pop_all())
    await service.open()
    if service.order_damage:
        here.board.state_fact("order_damage", service.order_damage)
    publisher = ComponentStatusPublisher(here.board, view)
    here.board.watch(publisher.changed)
    service.listen(publisher)
    publisher.changed()
    cadence: Callable[[float | None], None] = lambda _: None  # noqa: E731 nobody has one
    if options.health:

        def current_health(arns: Mapping[str, str]) -> Mapping[str, ComponentHealth]:
            return component_health(service.state.current, component_statuses(view()), arns)

        fleet = await stack.enter_async_context(_fleet(here, options, ledger, supervisor, current_health))
        here.board.watch(fleet.changed)
        cadence = fleet.cadence
        service.listen(fleet)
        sending = tasks.create_task(fleet.run(), name="agent.fleet")
        stack.callback(sending.cancel)
    LiveSettings(service.configurations, supervisor, cache, cadence)
    _watch_link(here, options, service, keyring, tasks, stack)
    serving = tasks.create_task(service.serve(tasks), name="agent.greengrass.deployments.serve")
    stack.push_async_callback(_leave, serving, service)
    operations = Operations((KeyringJobs(keyring), *([account.operation] if account.operation else [])))
    await _take_from_aws(here, options, service, operations, stack)
    return service


async def _serve_components(
    here: AgentParts, options: DeploymentOptions, layout: Layout, service: DeploymentService,
    credentials: CredentialsProvider | None,
    statuses: Callable[[], Mapping[str, ComponentStatus]], tasks: asyncio.TaskGroup, stack: AsyncExitStack,
) -> None:  # fmt: skip
    """Have components find their socket, and what AWS's own components do behind it."""
    if not here.ipc.enabled:
        return
    # Imported here: an agent without it does not carry what it needs.
    from agent.greengrass.ipc import serving  # noqa: PLC0415

    def report(key: str, fact: Callable[[], Any]) -> None:
        here.board.watch(lambda: here.board.state_fact(key, fact()))

    behind = serving.Behind(
        here.thing, layout, service.supervisor, service, statuses, here.board.problem, here.transport,
        _secrets(here, layout, credentials), report, here.cloud,
        control=control_topics(here.topics, here.thing, options), clients=_clients(here, credentials),
        factories=_services(here, layout, credentials, options, service),
    )  # fmt: skip
    await serving.enter(_socket(here, layout), here.ipc, behind, tasks, stack)


def _secrets(here: AgentParts, layout: Layout, credentials: CredentialsProvider | None) -> SecretManager:
    from agent.greengrass.services.secrets.cache import SecretCache  # noqa: PLC0415 only for an agent with the socket
    from agent.greengrass.services.secrets.manager import SecretManager  # noqa: PLC0415 as above

    aws = here.aws or AwsOptions()
    cache = SecretCache(layout.secrets, Path(aws.key_file) if aws.key_file else None)
    folder = under(here.folder, here.secrets.folder) if here.secrets.folder else None
    return SecretManager(folder, cache, aws, credentials)


def _services(
    here: AgentParts, layout: Layout, credentials: CredentialsProvider | None, options: DeploymentOptions,
    service: DeploymentService,
) -> Mapping[str, Factory]:  # fmt: skip
    """What stands for AWS's own components; each is made, and loaded, when its component is deployed."""

    def logs() -> Service:
        from agent.greengrass.services.logs.manager import LogManager  # noqa: PLC0415

        return LogManager(here.thing, layout.logs, layout.log_positions, here.aws, credentials)

    def lookout() -> Service:
        from agent.greengrass.services.lookout import LookoutEdgeAgent  # noqa: PLC0415

        return LookoutEdgeAgent(_servers_surroundings(here, options, service, credentials), _group(options))

    def edge_manager() -> Service:
        from agent.greengrass.services.edge_manager import EDGE_MANAGER, EdgeManager  # noqa: PLC0415

        surroundings = _servers_surroundings(here, options, service, credentials)
        return EdgeManager(surroundings, layout.work(EDGE_MANAGER), _group(options))

    return {
        "aws.greengrass.LogManager": logs,
        "aws.iot.lookoutvision.EdgeAgent": lookout,
        "aws.greengrass.SageMakerEdgeManager": edge_manager,
    }


def _servers_surroundings(
    here: AgentParts, options: DeploymentOptions, service: DeploymentService, credentials: CredentialsProvider | None
) -> Surroundings:
    """What servers for programs work with."""

    def retain(topic: str, payload: Any) -> None:
        here.board.retain(f"{here.topics.base}/{topic}", msgspec.json.encode(payload))

    return Surroundings(
        here.thing, here.data_dir, here.folder, here.plane, {here.transport.name: here.transport},
        here.board.state_fact, service.models, worker_user(options.run_as), retain, aws=here.aws,
        credentials=credentials, forget=here.board.forget,
    )  # fmt: skip


def _group(options: DeploymentOptions) -> str:
    """The group of the user that components run as, whose programs are the clients; none for an agent's own user."""
    user = worker_user(options.run_as)
    try:
        return grp.getgrgid(user.gid).gr_name if user is not None else ""
    except KeyError:  # a number that no group of this machine has
        return ""


def _socket(here: AgentParts, layout: Layout) -> Path:
    return under(here.folder, here.ipc.socket) if here.ipc.socket else layout.socket


def _watch_link(
    here: AgentParts, options: DeploymentOptions, service: DeploymentService, keyring: Keyring,
    tasks: asyncio.TaskGroup, stack: AsyncExitStack,
) -> None:  # fmt: skip
    """Find out what the link of deployments is worth, and say what becomes of documents that nobody signed."""

    def found(link: Link) -> None:
        keyring.relink(link)
        unsigned = keyring.policy.unsigned
        service.hold(pending=unsigned.pending)
        if not unsigned.pending:
            hint = f" ({unsigned.hint})" if unsigned.hint else ""
            log.log(logging.INFO if unsigned.accepted else logging.WARNING, "%s%s", unsigned.said, hint)
        here.board.state_fact("deployments", {"unsigned": unsigned.word, "reason": unsigned.reason})

    found(keyring.policy.link)
    if keyring.policy.unsigned.pending:
        topics = document_topics(here.topics, here.thing, options)
        watch = LinkWatch(here.transport, here.link.visiting(here.transport.name), topics, found)
        stack.callback(tasks.create_task(watch.run(), name="agent.greengrass.trust.watch").cancel)


async def _leave(serving: asyncio.Task[None], service: DeploymentService) -> None:
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await service.close()


def _keyring(
    here: AgentParts, options: DeploymentOptions, layout: Layout, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> Keyring:
    """What decides on documents; key lists are taken until the stack is left, where there are keys to begin with."""
    signed, keys = _configured_list(options, here.folder)
    policy = TrustPolicy(Link.of(here.link), options.accept, keys, max_silence_s=options.max_silence_s)
    report = partial(here.board.retain, f"{here.topics.trust}/status")
    keyring = Keyring(policy, thing=here.thing, file=KeyringFile(layout.trust), signed=signed, report=report)
    keyring.open()
    here.retrust(lambda changed: keyring.configure(KeyList.configured(trusted(changed.trusted_keys, here.folder))))
    if keyring.in_use:
        serving = tasks.create_task(keyring.serve(here.transport, here.topics.trust), name="agent.greengrass.trust")
        stack.callback(serving.cancel)
    return keyring


def _configured_list(options: DeploymentOptions, folder: Path) -> tuple[SignedContent | None, KeyList]:
    """The key list of the configuration, and how it was signed; raises ``ConfigError``."""
    if not options.trust_list:
        return None, KeyList.configured(trusted(options.trusted_keys, folder))
    if options.trusted_keys:
        hint = "keep trust_list alone: the list names its keys"
        raise ConfigError("there are trusted_keys and a trust_list", code="keys-twice", hint=hint)
    path = under(folder, options.trust_list)
    try:
        signed = unsealed(path.read_bytes())
        return signed, keylist.first(signed)
    except OSError as error:
        hint = "name the signed file that `verge trust sign` wrote"
        message = f"the key list {path} cannot be read: {error.strerror}"
        raise ConfigError(message, code="key-missing", hint=hint) from error
    except NotTrustedError as error:
        raise ConfigError(f"{path}: {error.message}", code="key-unreadable", hint=error.hint) from error


def _supervisor(here: AgentParts, options: DeploymentOptions, layout: Layout) -> Supervisor:
    env = nucleus(str(AS_NUCLEUS), here.thing, here.aws, here.link, here.downloads, os.environ)
    if here.ipc.enabled:
        env |= ipc_socket(_socket(here, layout), layout.root)
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
    here: AgentParts, layout: Layout, cache: Cache, activator: Activator, account: _Account, user: Identity | None
) -> Workspace:
    cloud = _cloud(here.greengrass)
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
        user=user,
    )


def _cloud(options: GreengrassOptions) -> DataPlane | None:
    """The client that asks Amazon's cloud for components; None where the configuration does not want that."""
    if not options.enabled:
        return None
    from agent.greengrass.cloud.client import DataPlane  # noqa: PLC0415 only for those who ask the cloud

    return DataPlane(options)


def _stores(here: AgentParts, credentials: CredentialsProvider | None, cloud: DataPlane | None) -> AwsStoreOptions:
    options = msgspec.structs.asdict(here.downloads) | {"aws": here.aws or AwsOptions(), "credentials": credentials}
    if cloud is None:
        return AwsStoreOptions(**options)
    from agent.greengrass.artifacts.stores.greengrass import GreengrassStoreOptions  # noqa: PLC0415 as above

    return GreengrassStoreOptions(**options, locator=cloud)


def _fleet(
    here: AgentParts, options: DeploymentOptions, ledger: Ledger, supervisor: Supervisor, current_health: HealthSource
) -> FleetStatus:
    attributes = platform.detect()
    return FleetStatus(
        here.transport, ledger, supervisor, current_health,
        device=DeviceFacts(here.thing, attributes["os"], attributes["architecture"], str(AS_NUCLEUS)),
        topic=health_topic(here.thing, options.aws_prefix), cadence_s=options.health_cadence_s,
    )  # fmt: skip


async def _take_from_aws(
    here: AgentParts, options: DeploymentOptions, service: DeploymentService, operation: JobHandler | None,
    stack: AsyncExitStack,
) -> None:  # fmt: skip
    """Take deployments from jobs and from the deployment shadow."""
    if options.jobs:
        for namespace in ("", GREENGRASS):
            topics = JobTopics(here.thing, options.aws_prefix, namespace)
            leave = not namespace and options.foreign_jobs == "leave"
            client = jobs_client(here.transport, topics, service.submit, service.cancel_job, operation, leave=leave)
            await stack.enter_async_context(client)
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
    here: AgentParts, supervisor: Supervisor, tasks: asyncio.TaskGroup, stack: AsyncExitStack
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


def _clients(here: AgentParts, credentials: CredentialsProvider | None) -> Callable[[str], Any] | None:
    """What makes clients of the account's services; it blocks."""
    if here.aws is None:
        return None
    options = here.aws

    def client(service: str) -> Any:
        from agent.aws import sdk  # noqa: PLC0415 it loads boto3

        endpoint = options.s3_endpoint_url if service == "s3" else None
        return sdk.session(options, credentials).client(service, endpoint_url=endpoint)

    return client


def _rotation(here: AgentParts, tasks: asyncio.TaskGroup, stack: AsyncExitStack) -> JobHandler | None:
    provisioned = here.link.provisioned
    if provisioned is None:
        return None
    from agent.aws.provision.rotate import Rotation  # noqa: PLC0415

    rotation = Rotation(here.thing, provisioned, here.transport, tasks)
    stack.push_async_callback(rotation.close)
    return rotation
