"""The token exchange service's one request, and every answer there is.

Pure: the head of a request in, what it asks for or a refusal out.  Statuses and bodies are those of the Greengrass
nucleus, except that no body ever repeats what a credentials endpoint sent with its 200.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from http import HTTPStatus

import msgspec

from agent.aws.credentials import Credentials
from agent.aws.errors import CredentialsError, CredentialsUnreachableError

__all__ = ["MAX_HEAD_BYTES", "PATH", "TOKEN_VARIABLE", "URI_VARIABLE", "Response", "ask", "failed", "given"]

PATH = "/2016-11-01/credentialprovider/"
URI_VARIABLE = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN_VARIABLE = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105 the variable's name
MAX_HEAD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer."""

    status: HTTPStatus | int
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"

    def encode(self) -> bytes:
        """As it goes over the wire; the connection is closed after it."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = ""
        lines = (
            f"HTTP/1.1 {int(self.status)} {phrase}",
            f"Content-Type: {self.kind}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode() + self.body


def ask(head: bytes) -> str | Response:
    """The token that a request's head shows, or why it is none that is answered."""
    first, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, _, rest = first.partition(" ")
    target, _, version = rest.partition(" ")
    if not method.isascii() or not version.startswith("HTTP/1."):
        return Response(HTTPStatus.BAD_REQUEST)
    if method != "GET":
        return Response(HTTPStatus.METHOD_NOT_ALLOWED)
    if target.partition("?")[0] != PATH:
        return Response(HTTPStatus.BAD_REQUEST)
    tokens = [
        value.strip() for name, _, value in (line.partition(":") for line in fields) if name.lower() == "authorization"
    ]
    return tokens[0] if len(tokens) == 1 and tokens[0] else Response(HTTPStatus.FORBIDDEN)


def given(credentials: Credentials) -> Response:
    """The answer that an AWS SDK takes credentials from."""
    body = {
        "AccessKeyId": credentials.access_key,
        "SecretAccessKey": credentials.secret_key,
        "Expiration": f"{credentials.expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "Token": credentials.token,
    }
    return Response(HTTPStatus.OK, msgspec.json.encode(body), "application/json")


def failed(error: CredentialsError | CredentialsUnreachableError) -> Response:
    """The answer when there are no credentials: the endpoint's own status, where it gave one."""
    if error.status is None:
        return Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"Failed to get connection")
    said = f"TES responded with status code: {error.status}. Caching response. {error.answer}"
    return Response(error.status, said.encode())
