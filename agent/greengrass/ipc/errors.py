"""What an operation may answer in place of its response: the error shapes of Greengrass's IPC, one class each.

A shape that an operation does not model reaches the client as a ``ServiceError`` with the same message (``shapes``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from agent.errors import InvalidInputError

__all__ = [
    "ComponentNotFoundError",
    "ConflictError",
    "FailedUpdateConditionCheckError",
    "InvalidArgumentsError",
    "InvalidArtifactsDirectoryPathError",
    "InvalidRecipeDirectoryPathError",
    "InvalidTokenError",
    "IpcError",
    "ResourceNotFoundError",
    "ServiceError",
    "UnauthorizedError",
]


class IpcError(InvalidInputError):
    """An error that goes to the component; ``shape`` is its name on the wire, ``members`` its other members."""

    default_code = "ipc"
    shape: ClassVar[str] = "ServiceError"

    def __init__(self, message: str, *, members: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.members = dict(members or {})

    def to_plain(self, shape: str = "") -> dict[str, Any]:
        """As the clients of all languages read it: Python's takes ``message``, Java's those with an underscore."""
        named = shape or self.shape
        return {
            "message": self.message,
            "_message": self.message,
            "_errorCode": named,
            "_service": "aws.greengrass#GreengrassCoreIPC",
            **self.members,
        }


class ServiceError(IpcError):
    """The agent cannot do it now, or not at all; ``members`` may hold a ``context``, an object of what may help."""

    default_code = "ipc-service"


class InvalidArgumentsError(IpcError):
    """The request is wrong."""

    default_code = "ipc-arguments"
    shape = "InvalidArgumentsError"


class UnauthorizedError(IpcError):
    """The component's accessControl does not allow it."""

    default_code = "ipc-unauthorized"
    shape = "UnauthorizedError"


class ResourceNotFoundError(IpcError):
    """There is no such thing."""

    default_code = "ipc-not-found"
    shape = "ResourceNotFoundError"

    @classmethod
    def of(cls, kind: str, name: str, message: str = "") -> ResourceNotFoundError:
        """One that says which kind of thing of which name is missing."""
        members = {"resourceType": kind, "resourceName": name}
        return cls(message or f"there is no {kind} {name}", members=members)


class ComponentNotFoundError(IpcError):
    """There is no such component."""

    default_code = "ipc-component-not-found"
    shape = "ComponentNotFoundError"


class ConflictError(IpcError):
    """What is stored is not what the request expects."""

    default_code = "ipc-conflict"
    shape = "ConflictError"


class FailedUpdateConditionCheckError(IpcError):
    """What is stored is newer than the request."""

    default_code = "ipc-condition"
    shape = "FailedUpdateConditionCheckError"


class InvalidTokenError(IpcError):
    """Nobody has that token."""

    default_code = "ipc-token"
    shape = "InvalidTokenError"


class InvalidRecipeDirectoryPathError(IpcError):
    """A folder of recipes cannot be used."""

    default_code = "ipc-recipe-folder"
    shape = "InvalidRecipeDirectoryPathError"


class InvalidArtifactsDirectoryPathError(IpcError):
    """A folder of artifacts cannot be used."""

    default_code = "ipc-artifact-folder"
    shape = "InvalidArtifactsDirectoryPathError"
