"""What an operation is: a name, the struct of its request, a handler; and what a handler is handed.

A handler takes the decoded request and its ``Call`` and returns the response as plain data, at once or from a
coroutine; or it raises an ``IpcError``.  A streaming operation's handler keeps the call and ``send``s events on it,
also before it has returned: they follow the response.  Whether the caller may do it is asked by the handler
(``authorization``), for only it knows which resource is meant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from agent.greengrass.ipc.errors import InvalidArgumentsError

__all__ = ["NOTHING", "Call", "Empty", "Operation", "Permit", "Principal", "Reply", "needed"]

Reply: TypeAlias = Mapping[str, Any]
"""A response as plain data; bytes become base64."""
NOTHING: Reply = {}

Value = TypeVar("Value")
RequestT = TypeVar("RequestT", bound=Struct)


class Empty(Struct, frozen=True):
    """A request that says nothing."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who has a connection: a component, or a person with a token of the command line."""

    name: str
    """The component's name."""
    is_cli: bool = False
    """Whether it may do what the command line may, whatever any accessControl says."""


class Call(Protocol):
    """One request on its stream, as a handler sees it."""

    @property
    def caller(self) -> Principal:
        """Whose it is."""

    @property
    def operation(self) -> str:
        """The name of the operation."""

    @property
    def connection(self) -> int:
        """The number of the connection, unique while the agent runs."""

    def send(self, event: Reply) -> None:
        """Send an event of the operation's one kind; of a stream that has ended nothing is sent."""

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have it called when the stream ends, whoever ends it, and at once where it has ended already."""

    def end(self) -> None:
        """End the stream."""


Permit: TypeAlias = Callable[[Call, str, str], None]
"""Asks whether the caller may do the operation to a resource of a service; raises ``UnauthorizedError`` if not."""


@dataclass(frozen=True, slots=True)
class Operation(Generic[RequestT]):
    """An operation that is served."""

    name: str
    request: type[RequestT]
    handle: Callable[[RequestT, Call], Reply | Awaitable[Reply]]


def needed(value: Value | None, name: str) -> Value:
    """A member that has to be there.  Raises ``InvalidArgumentsError``."""
    if value is None:
        raise InvalidArgumentsError(f"{name} is missing")
    return value
