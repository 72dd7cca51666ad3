"""Why there are no credentials, under the codes that Greengrass puts into a deployment's status."""

from __future__ import annotations

from agent.errors import InvalidInputError, UnreachableError, VergeError

__all__ = ["CredentialsError", "CredentialsUnreachableError"]


class _EndpointError(VergeError):
    """``status`` and ``answer`` are those of the credentials endpoint's answer; None and empty without one."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        status: int | None = None,
        answer: str = "",
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
        self.answer = answer


class CredentialsError(_EndpointError, InvalidInputError):
    """The device gets no credentials, however often it asks."""

    default_code = "CREDENTIAL_ENDPOINT_AUTH_FAILURE"


class CredentialsUnreachableError(_EndpointError, UnreachableError):
    """The device gets no credentials now."""

    default_code = "CREDENTIAL_ENDPOINT_SERVER_ERROR"
