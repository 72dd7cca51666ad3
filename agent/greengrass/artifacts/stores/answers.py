"""What an HTTP answer, or the lack of one, means for an artifact.

Pure: a response's head in, facts or an error out.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, SSLError

from agent.errors import VergeError
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.uri import shown

__all__ = ["NOT_SATISFIABLE", "broken_off", "extent", "judge", "not_connected", "version", "whole_size"]

_OK, _PARTIAL, NOT_SATISFIABLE = 200, 206, 416
_SERVER_ERRORS = range(500, 600)
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

_WRONG: Mapping[int, tuple[str, str]] = {
    401: ("ACCESS_DENIED", "the server wants other credentials"),
    403: ("ACCESS_DENIED", "the server refuses; a signed URL may have expired"),
    404: ("RESOURCE_NOT_FOUND", "check the URL, and that the artifact is published"),
    407: ("ACCESS_DENIED", "the proxy wants other credentials"),
    410: ("RESOURCE_NOT_FOUND", "the server says that it is gone for good"),
}
_LATER: Mapping[int, tuple[str, str]] = {
    408: ("HTTP_REQUEST_ERROR", "the server gave up waiting"),
    425: ("HTTP_REQUEST_ERROR", "the server asks to come again"),
    429: ("THROTTLING_ERROR", "the server asks for fewer requests"),
}


def judge(response: BaseHTTPResponse, uri: str, offset: int) -> None:
    """Raise unless the answer holds the artifact's bytes; the response is closed then."""
    status = response.status
    if status in {_OK, _PARTIAL} or (status == NOT_SATISFIABLE and offset):
        return
    response.close()
    said = f"{shown(uri)}: the server answers {status}"
    if status in _SERVER_ERRORS:
        raise ArtifactUnreachableError(said, hint="the server or one before it has trouble", code="SERVER_ERROR")
    if status in _LATER:
        code, hint = _LATER[status]
        raise ArtifactUnreachableError(said, hint=hint, code=code)
    code, hint = _WRONG.get(status, ("HTTP_REQUEST_ERROR", "check the URL with another client"))
    raise ArtifactError(said, hint=hint, code=code)


def extent(response: BaseHTTPResponse, uri: str) -> tuple[int, int | None]:
    """Where the answer's bytes begin, and how many the whole has; a 416 begins at its end.

    Raises:
        ArtifactError: HTTP_REQUEST_ERROR when the head contradicts itself.
    """
    if response.status == NOT_SATISFIABLE:
        size = whole_size(response) or 0
        return size, size
    if response.status == _PARTIAL:
        extent_header = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if extent_header is None or extent_header[1] is None:
            raise ArtifactError(
                f"{shown(uri)}: a part without a Content-Range that can be read",
                hint="the server's ranges are broken",
                code="HTTP_REQUEST_ERROR",
            )
        return int(extent_header[1]), None if extent_header[2] == "*" else int(extent_header[2])
    length = response.headers.get("content-length", "")
    return 0, int(length) if length.isdecimal() and length.isascii() else None


def whole_size(response: BaseHTTPResponse) -> int | None:
    """What a 416 tells about the size of the whole."""
    extent_header = _RANGE.fullmatch(response.headers.get("content-range", ""))
    return int(extent_header[2]) if extent_header and extent_header[2] != "*" else None


def version(response: BaseHTTPResponse) -> str | None:
    """A strong ETag, else the modification time: either may stand in ``If-Range``."""
    etag = response.headers.get("etag", "")
    return etag if etag.startswith('"') else response.headers.get("last-modified")


def not_connected(uri: str, error: HTTPError) -> VergeError:
    """The error of a request that got no answer."""
    tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if tls is None and not isinstance(error, SSLError):
        return ArtifactUnreachableError(
            f"{shown(uri)}: {_reason(error)}", hint="check the network, the proxy and the host's name"
        )
    message = f"{shown(uri)}: no TLS with this server: {_reason(error)}"
    if isinstance(tls, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return ArtifactUnreachableError(message, hint="the link or the server broke off", code="TLS_HANDSHAKE_FAILURE")
    hint = "check the device's clock, and ca_file if the server's authority is your own"
    return ArtifactError(message, hint=hint, code="TLS_HANDSHAKE_FAILURE")


def broken_off(uri: str, error: HTTPError) -> ArtifactUnreachableError:
    """The error of an answer that stopped before its end."""
    return ArtifactUnreachableError(f"{shown(uri)} broke off: {_reason(error)}", hint="the link or the server failed")


def _reason(error: BaseException) -> str:
    """What the system said, else what kind of error it is; an error's own text may hold the whole URL."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower().removesuffix(" error")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it; urllib3 keeps some of that in ``args``."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [argument for argument in cause.args if isinstance(argument, BaseException)]
        waiting += [cause.__cause__, cause.__context__]
