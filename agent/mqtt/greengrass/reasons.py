"""Why there is no connection to a nucleus, and what its errors mean."""

from __future__ import annotations

from typing import Final

from agent.errors import BrokerUnreachableError, NotConnectedError, PublishError, VergeError
from agent.mqtt.greengrass.operations import Request
from agent.mqtt.greengrass.streams import Failure

__all__ = ["NOT_AUTHORIZED", "broken", "connect_failed", "lost", "publish_failed", "refused", "subscribe_refused"]

NOT_AUTHORIZED: Final = "not-authorized"
_BUSY: Final = "ServiceError"
"""What a nucleus answers when it cannot do it now: its spool is full, it has no link."""
_MEANINGS: Final = {
    "UnauthorizedError": (NOT_AUTHORIZED, "the component's accessControl does not allow it"),
    "InvalidArgumentsError": ("bad-request", "the nucleus takes no such request"),
}
_SERVICES: Final = {
    "PublishToTopic": "aws.greengrass.ipc.pubsub",
    "SubscribeToTopic": "aws.greengrass.ipc.pubsub",
    "PublishToIoTCore": "aws.greengrass.ipc.mqttproxy",
    "SubscribeToIoTCore": "aws.greengrass.ipc.mqttproxy",
}


def connect_failed(error: Exception, address: str) -> BrokerUnreachableError:
    """What an exception while connecting means."""
    what, hint = str(error) or type(error).__name__, "check socket"
    match error:
        case FileNotFoundError():
            what, hint = "there is no such socket", "check that the nucleus runs, and socket"
        case ConnectionRefusedError():
            what, hint = "nobody listens there", "check that the nucleus runs"
        case PermissionError():
            what, hint = "the agent's user may not open it", "check the folders' modes, and who the component runs as"
        case TimeoutError():
            what, hint = "no answer in time", "look into the nucleus's log"
        case OSError() if error.strerror:
            what = error.strerror
    return BrokerUnreachableError(f"no connection to {address}: {what}", code="unreachable", hint=hint)


def refused(address: str) -> BrokerUnreachableError:
    """The nucleus does not know the token."""
    return BrokerUnreachableError(
        f"the nucleus at {address} does not know the component's token",
        code=NOT_AUTHORIZED,
        hint="a token holds from one start of the component to the next: have the nucleus start it again",
    )


def broken(address: str, reason: str) -> BrokerUnreachableError:
    """One of both broke the protocol."""
    return BrokerUnreachableError(
        f"lost the connection to {address}: {reason}", code="protocol-error", hint="look into the nucleus's log"
    )


def lost(address: str) -> BrokerUnreachableError:
    """The nucleus hung up."""
    return BrokerUnreachableError(
        f"lost the connection to {address}: the nucleus closed it",
        code="connection-closed",
        hint="look into the nucleus's log",
    )


def publish_failed(failure: Failure, request: Request, topic: str) -> VergeError:
    """Why a message was not published; a ``NotConnectedError`` passes."""
    if failure.shape == _BUSY:
        return NotConnectedError(f"the nucleus could not take a message for {topic!r}: {failure.message or 'not now'}")
    code, what = _meaning(failure)
    return PublishError(f"the nucleus refused a message for {topic!r}: {what}", code=code, hint=_hint(request, topic))


def subscribe_refused(failure: Failure, request: Request, topic_filter: str) -> str | None:
    """Why a filter is not subscribed to, as long as nobody changes anything; None where it may pass."""
    if failure.shape in _MEANINGS:
        return f"{_meaning(failure)[1]} (hint: {_hint(request, topic_filter)})"
    return None


def _meaning(failure: Failure) -> tuple[str, str]:
    code, what = _MEANINGS.get(failure.shape, ("publish-refused", f"it failed with {failure.shape or 'no reason'}"))
    return code, f"{what}: {failure.message}" if failure.message else what


def _hint(request: Request, resource: str) -> str:
    operation = request.operation
    return f"accessControl of {_SERVICES[operation]} has to allow aws.greengrass#{operation} on {resource}"
