"""What can be wrong with a request for a shadow.

::

    ShadowError
    ├── InvalidInputError
    │   ├── ShadowRequestError         400, 401, 413: the request cannot be done as it is
    │   ├── ShadowMissingError         404: there is no such shadow
    │   ├── ShadowConflictError        409: the shadow has another version
    │   └── ShadowServiceMissingError  503: the component is not deployed
    └── UnreachableError
        ├── ShadowThrottledError       429: too many requests
        └── ShadowStoreError           500: the disk, or no room for another shadow
"""

from __future__ import annotations

from agent.errors import InvalidInputError, UnreachableError, VergeError

__all__ = [
    "ShadowConflictError",
    "ShadowError",
    "ShadowMissingError",
    "ShadowRequestError",
    "ShadowServiceMissingError",
    "ShadowStoreError",
    "ShadowThrottledError",
]


class ShadowError(VergeError):
    """A request for a shadow is not done."""

    status = 500
    """The code that IoT Core's shadow service has for it."""
    token: str | None = None
    """The request's client token, where it could be read."""


class ShadowRequestError(ShadowError, InvalidInputError):
    """The request cannot be done as it is; ``status`` is 400, 401 or 413."""

    default_code = "shadow-request-wrong"

    def __init__(self, message: str, *, status: int = 400, hint: str | None = None, token: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.token = token


class ShadowMissingError(ShadowError, InvalidInputError):
    """There is no such shadow; ``shadow`` is its name, empty for the classic one."""

    default_code = "shadow-missing"
    status = 404

    def __init__(self, shadow: str) -> None:
        super().__init__(f"No shadow exists with name: {shadow or 'Unnamed Shadow'}")
        self.shadow = shadow


class ShadowConflictError(ShadowError, InvalidInputError):
    """The shadow has another version than the request wants."""

    default_code = "shadow-conflict"
    status = 409

    def __init__(self, message: str = "Version conflict", *, token: str | None = None) -> None:
        super().__init__(message, hint="get the shadow, and send its version or none")
        self.token = token


class ShadowServiceMissingError(ShadowError, InvalidInputError):
    """Nobody keeps shadows here."""

    default_code = "shadow-manager-missing"
    status = 503

    def __init__(self) -> None:
        super().__init__(
            "no shadows are kept here: aws.greengrass.ShadowManager is not deployed",
            hint="deploy aws.greengrass.ShadowManager, or name it as a dependency in the component's recipe",
        )


class ShadowThrottledError(ShadowError, UnreachableError):
    """More requests in a second than are taken."""

    default_code = "shadow-throttled"
    status = 429


class ShadowStoreError(ShadowError, UnreachableError):
    """The disk does not take or give a shadow, or there is no room for another."""

    default_code = "shadow-store"
