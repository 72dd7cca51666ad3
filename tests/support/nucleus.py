"""A Greengrass nucleus as far as a component's messages go: our own IPC server with its operations.

IoT Core is a bus in memory, whose messages are sent on in a later turn, as what goes through a cloud is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from agent.config.ipc import IpcOptions
from agent.config.transports import NucleusOptions
from agent.greengrass.ipc.authorization import Authorizer
from agent.greengrass.ipc.errors import ServiceError, UnauthorizedError
from agent.greengrass.ipc.mqttproxy import MqttProxy
from agent.greengrass.ipc.operations import Call
from agent.greengrass.ipc.pubsub import LocalBus, PubSub
from agent.greengrass.ipc.server import Server
from agent.greengrass.recipes.configuration import Tree
from tests.support.ipc import COMPONENT, TOKEN, serving
from tests.support.memory import MemoryBus, MemoryTransport

EVERYTHING = {
    service: {f"{service}:1": {"operations": ["*"], "resources": ["*"]}}
    for service in ("aws.greengrass.ipc.pubsub", "aws.greengrass.ipc.mqttproxy")
}


class Nucleus:
    """What the components of one device meet on; start and stop it as often as need be."""

    def __init__(self, socket: Path, options: IpcOptions | None = None) -> None:
        self.socket = socket
        self.access = EVERYTHING
        """The accessControl of the component under test; others may do everything."""
        self.refused: set[str] = set()
        """Topics and filters that no policy allows."""
        self.busy: set[str] = set()
        """Those for which there is no room now."""
        self.requests: list[tuple[str, str]] = []
        """Operations and what they were about, in the order they came."""
        self.bus = LocalBus()
        self._ipc = options
        self._cloud = MemoryBus()
        self._subscribers: list[Call] = []
        self._stack = AsyncExitStack()
        self.server: Server | None = None

    @property
    def options(self) -> NucleusOptions:
        """How a component finds it."""
        return NucleusOptions(socket=str(self.socket), token=TOKEN, backoff_base_s=0.05, backoff_cap_s=0.2)

    async def start(self) -> None:
        """Listen."""
        link = await self._stack.enter_async_context(MemoryTransport(self._cloud, "nucleus"))
        authorizer = _Gate(self)
        operations = (*PubSub(self.bus, authorizer.permit).operations, *MqttProxy(link, authorizer).operations)
        self.server = await self._stack.enter_async_context(serving(self.socket, operations, self._ipc))

    async def stop(self) -> None:
        """Hang up on everybody, and listen no more."""
        await self._stack.aclose()
        self.server = None

    def end_streams(self) -> None:
        """End every local subscription from this side."""
        subscribers, self._subscribers = self._subscribers, []
        for subscriber in subscribers:
            subscriber.end()

    def disconnect(self) -> None:
        """Hang up on the component under test."""
        assert self.server is not None
        self.server.disconnect(COMPONENT)

    def asked(self, operation: str, resource: str) -> int:
        """How often an operation was asked for."""
        return self.requests.count((operation, resource))

    def note(self, call: Call, resource: str) -> None:
        """Remember a request, and refuse it where it is to be refused."""
        self.requests.append((call.operation, resource))
        if resource in self.refused:
            raise UnauthorizedError(f"{call.caller.name} may not do that")
        if resource in self.busy:
            raise ServiceError("the spool is full")
        if call.operation == "SubscribeToTopic":
            self._subscribers.append(call)

    def configuration(self, component: str) -> Tree:
        """What a component is configured with."""
        return Tree.of({"accessControl": self.access if component == COMPONENT else EVERYTHING})


class _Gate(Authorizer):
    """The policies of the components, and what a test says of its own."""

    def __init__(self, nucleus: Nucleus) -> None:
        super().__init__(nucleus.configuration)
        self._nucleus = nucleus

    def permit(self, call: Call, service: str, resource: str) -> None:
        self._nucleus.note(call, resource)
        super().permit(call, service, resource)


@asynccontextmanager
async def nucleus(socket: Path, options: IpcOptions | None = None) -> AsyncIterator[Nucleus]:
    """A nucleus that listens."""
    made = Nucleus(socket, options)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()
