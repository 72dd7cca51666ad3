"""Why there are no credentials, under the codes that Greengrass puts into a deployment's status."""

from __future__ import annotations

from agent.errors import Unreachable, VergeError, Wrong

__all__ = ["CredentialsUnreachable", "CredentialsWrong"]


class _OfEndpoint(VergeError):
    """``status`` and ``answer`` are what the credentials endpoint said; None and empty when it said nothing."""

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


class CredentialsWrong(_OfEndpoint, Wrong):
    """The device gets no credentials, however often it asks."""

    default_code = "CREDENTIAL_ENDPOINT_AUTH_FAILURE"


class CredentialsUnreachable(_OfEndpoint, Unreachable):
    """The device gets no credentials now."""

    default_code = "CREDENTIAL_ENDPOINT_SERVER_ERROR"
