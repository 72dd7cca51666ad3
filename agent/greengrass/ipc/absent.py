"""Operations of parts that the agent does not have: each says why not, and what to do.

``ValidateAuthorizationToken`` is there for a stream manager, as with a nucleus, and for nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from agent.greengrass.ipc.errors import InvalidTokenError, ServiceError, UnauthorizedError
from agent.greengrass.ipc.operations import Call, Empty, Operation, Reply

__all__ = ["ABSENT", "TokenOperations", "absent"]

_STREAMS: Final = "aws.greengrass.StreamManager"
_CLIENT_DEVICES: Final = (
    "aws.greengrass.clientdevices.Auth is not served: have client devices connect to the broker that the agent uses, "
    "and let that decide who may"
)
_CONSOLE: Final = (
    "there is no debug console: the topics below verge/THING show how everything is, and the files in logs of "
    "data_dir what components wrote"
)
ABSENT: Final = {
    "CreateDebugPassword": _CONSOLE,
    "GetClientDeviceAuthToken": _CLIENT_DEVICES,
    "VerifyClientDeviceIdentity": _CLIENT_DEVICES,
    "AuthorizeClientDeviceAction": _CLIENT_DEVICES,
    "SubscribeToCertificateUpdates": _CLIENT_DEVICES,
}
"""Operation → why it is refused."""


def absent() -> tuple[Operation[Any], ...]:
    """The operations that are refused."""
    return tuple(Operation(name, Empty, _refuse) for name in ABSENT)


def _refuse(request: Empty, call: Call) -> Reply:
    del request
    raise ServiceError(ABSENT[call.operation])


class _Validate(Struct, frozen=True):
    token: str | None = None


@dataclass(frozen=True)
class TokenOperations:
    """ValidateAuthorizationToken; ``component_of`` gives the component that has a token."""

    component_of: Callable[[str], str | None]

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (Operation("ValidateAuthorizationToken", _Validate, self._validate),)

    def _validate(self, request: _Validate, call: Call) -> Reply:
        if call.caller.name != _STREAMS:
            raise UnauthorizedError(f"{call.caller.name} may not ask whose a token is: only {_STREAMS} may")
        if not request.token or self.component_of(request.token) is None:
            raise InvalidTokenError("no component has that token")
        return {"isValid": True}
