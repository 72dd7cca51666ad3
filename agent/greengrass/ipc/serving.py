"""The IPC put together: which operations are served on what, and who has which token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agent.config.ipc import IpcOptions
from agent.errors import ConfigError, VergeError
from agent.greengrass.components.states import ComponentStatus
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.configurations import Configurations
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.service import DeploymentService
from agent.greengrass.ipc.absent import TokenOperations, absent
from agent.greengrass.ipc.authorization import Authorizer
from agent.greengrass.ipc.configuration import ConfigurationOperations
from agent.greengrass.ipc.lifecycle import LifecycleOperations
from agent.greengrass.ipc.local import CLI, LocalOperations
from agent.greengrass.ipc.metrics import MetricOperations
from agent.greengrass.ipc.mqttproxy import MqttProxy
from agent.greengrass.ipc.operations import Operation, Principal
from agent.greengrass.ipc.pausing import Pausing
from agent.greengrass.ipc.pubsub import LocalBus, LocalMessage, PubSub
from agent.greengrass.ipc.secrets import SecretOperations
from agent.greengrass.ipc.server import Server
from agent.greengrass.ipc.shadows import SHADOW_MANAGER, Shadows
from agent.greengrass.ipc.tokens import CliTokens
from agent.greengrass.services.base import Factory, Service, Services
from agent.greengrass.services.secrets.manager import SECRET_MANAGER, SecretManager
from agent.mqtt.transport import Transport

if TYPE_CHECKING:
    from agent.greengrass.services.shadows.manager import ShadowManager

__all__ = ["Behind", "enter"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Behind:
    """The parts of the agent that operations work on."""

    thing: str
    layout: Layout
    supervisor: Supervisor
    service: DeploymentService
    statuses: Callable[[], Mapping[str, ComponentStatus]]
    """How every component is."""
    on_problem: Callable[[str, VergeError | None], None]
    """Takes what is the matter with a service that stands for one of AWS's own components."""
    broker: Transport
    """The broker that deployments come from."""
    secrets: SecretManager
    """Components' secrets."""
    report: Callable[[str, Callable[[], Any]], None]
    """Has a fact stand on the status topic, which is asked for as often as statistics are published."""
    cloud: Transport | None = None
    """The link to AWS IoT Core, where there is one."""
    clients: Callable[[str], Any] | None = None
    """Makes a boto3 client of a service, and blocks; None where there is no AWS account."""
    control: Sequence[str] = ()
    """What the topics begin with on which the agent obeys."""
    factories: Mapping[str, Factory] = field(default_factory=dict)
    """More services that stand for AWS's own components, by their names."""

    @property
    def configurations(self) -> Configurations:
        """What is live of the configurations of components."""
        return self.service.configurations

    def component_of(self, token: str) -> str | None:
        """The component that has a token."""
        holder = self.supervisor.holder(token)
        return None if holder is None else holder.name

    def carrier(self, options: IpcOptions) -> Transport | None:
        """What carries the topics of IoT Core."""
        return self.cloud or (self.broker if options.iot_core == "broker" else None)

    def configuration(self, component: str) -> Mapping[str, Any]:
        """What a component is configured with; nothing where it is not there."""
        tree = self.configurations.get(component)
        return {} if tree is None else tree.to_plain()


async def enter(
    path: Path, options: IpcOptions, behind: Behind, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> Services:
    """Serve components at a path until the stack is left; the result follows what is deployed."""
    tokens = CliTokens(behind.layout.root, path)
    try:
        await asyncio.to_thread(tokens.open)
    except OSError as error:  # components need none of it
        log.warning("greengrass-cli finds no token: %s", error)
    stack.callback(tokens.close)

    def who(token: str) -> Principal | None:
        component = behind.component_of(token)
        return tokens.who(token) if component is None else Principal(component)

    bus = LocalBus()
    factories = {CLI: lambda: tokens, **_factories(behind, options, bus), **behind.factories}
    services = Services(factories, behind.on_problem)
    bus.subscribe("$aws/things/+/shadow/#", partial(_on_shadow_message, services))
    behind.configurations.follow(partial(_follow, services, behind.configurations))
    try:
        server = Server(path, who, operations(behind, options, services, bus), options)
        await stack.enter_async_context(server)
        behind.supervisor.watch(partial(_on_component, server))
    except ConfigError as error:  # what needs it says so; the rest runs
        log.warning("components find no socket: %s", error)
        behind.on_problem("ipc", error)
    stack.push_async_callback(_end, tasks.create_task(services.run(), name="agent.greengrass.services"))
    return services


def _factories(behind: Behind, options: IpcOptions, bus: LocalBus) -> dict[str, Factory]:
    """The services by the components that they stand for; each imports what it needs once it is deployed."""

    def shadows() -> Service:
        from agent.greengrass.services.shadows.manager import ShadowManager  # noqa: PLC0415

        def publish(topic: str, payload: bytes) -> None:
            bus.publish(LocalMessage(topic, payload))

        return ShadowManager(behind.layout.root / "shadows.db", behind.thing, publish, behind.carrier(options))

    def streams() -> Service:
        from agent.greengrass.services.streams.manager import StreamManager  # noqa: PLC0415

        return StreamManager(behind.layout.root / "streams", behind.component_of, behind.clients)

    return {
        "aws.greengrass.StreamManager": streams,
        SECRET_MANAGER: lambda: behind.secrets,
        SHADOW_MANAGER: shadows,
    }


def _on_shadow_message(services: Services, message: LocalMessage) -> None:
    """What a component asks of its shadow over local publish and subscribe; the manager's own messages are not."""
    manager = cast("ShadowManager | None", services.get(SHADOW_MANAGER))
    if manager is not None and message.publisher:
        manager.handle(message.topic, message.payload, message.publisher)


def _follow(services: Services, configurations: Configurations) -> None:
    trees = {name: configurations.get(name) for name in services.names if name in configurations.deployed}
    services.follow({name: tree.to_plain() for name, tree in trees.items() if tree is not None})


def _on_component(server: Server, status: ComponentStatus) -> None:
    """Whose component is gone has no connection any more, whoever holds its other end."""
    if status.removed:
        server.disconnect(status.name)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def operations(behind: Behind, options: IpcOptions, services: Services, bus: LocalBus) -> Iterator[Operation[Any]]:
    """Every operation that is served."""
    authorizer = Authorizer(behind.configurations.get, behind.thing)
    yield from PubSub(bus, authorizer.permit).operations
    yield from MqttProxy(behind.carrier(options), authorizer, behind.control).operations

    async def shadow_manager() -> ShadowManager | None:
        return cast("ShadowManager | None", await services.ready(SHADOW_MANAGER))

    yield from Shadows(shadow_manager, authorizer.permit).operations
    local = LocalOperations(
        behind.service,
        authorizer.permit,
        behind.statuses,
        behind.configuration,
        behind.layout.packages / "artifacts",
    )
    yield from local.operations
    yield from Pausing(behind.supervisor, behind.configurations, authorizer.permit).operations
    yield from LifecycleOperations(behind.supervisor, behind.service.handshake).operations
    yield from ConfigurationOperations(behind.configurations).operations
    yield from SecretOperations(behind.secrets, authorizer.permit).operations
    yield from TokenOperations(behind.component_of).operations
    metrics = MetricOperations(authorizer.permit)
    behind.report("component_metrics", metrics.counted)
    yield from metrics.operations
    yield from absent()
