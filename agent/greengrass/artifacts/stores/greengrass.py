"""Artifacts that Amazon keeps for a component version: ``greengrass:ARN/NAME``.

The cloud is asked where one is and answers with a signed URL, which is fetched as any other ``https:`` artifact:
ranges, resuming, digest.  A URL is kept until the server refuses it, for then it has run out; a new one leads to the
same content, and a download goes on where it stopped.

Recipes only say ``greengrass:NAME``; the ARN is put in when the recipe comes from the cloud (``agent.greengrass``).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol
from urllib.parse import unquote

from agent.config.deployments import StoreOptions
from agent.errors import InvalidInputError, UnreachableError, VergeError
from agent.greengrass.artifacts.errors import TYPES, ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.store import AwsStoreOptions, Content
from agent.greengrass.artifacts.stores.https import HttpsStore
from agent.greengrass.artifacts.uri import not_valid, shown

__all__ = [
    "GREENGRASS_TYPES",
    "GreengrassArtifactError",
    "GreengrassArtifactUnreachableError",
    "GreengrassStore",
    "GreengrassStoreOptions",
    "Locator",
]

GREENGRASS_TYPES: Mapping[str, str] = {
    **TYPES,
    "GET_COMPONENT_VERSION_ARTIFACT_ACCESS_DENIED": "PERMISSION_ERROR",
    "DOWNLOAD_GREENGRASS_ARTIFACT_ERROR": "HTTP_ERROR",
    "CLOUD_API_ERROR": "NONE",
    "CONFLICTED_REQUEST": "REQUEST_ERROR",
    "BAD_REQUEST": "NUCLEUS_ERROR",
}
"""Code → error type, both in Greengrass's exact spelling."""

_URI = re.compile(r"greengrass:(arn:[^/?#]+:components:[^/?#:]+:versions:[^/?#:]+)/([^?#]+)", re.IGNORECASE)
_DOTS = {"", ".", ".."}
_RAN_OUT = "ACCESS_DENIED"
_REFUSED = {"ACCESS_DENIED", "RESOURCE_NOT_FOUND", "HTTP_REQUEST_ERROR"}


class Locator(Protocol):
    """Whoever can ask the cloud."""

    async def artifact_url(self, arn: str, name: str) -> str:
        """A signed URL of the artifact.

        Raises ``InvalidInputError`` or ``UnreachableError`` with one of ``GREENGRASS_TYPES``.
        """


class GreengrassStoreOptions(AwsStoreOptions, frozen=True, kw_only=True):
    """``AwsStoreOptions`` of a device that may ask the Greengrass cloud."""

    locator: Locator | None = None


class _TypedError(VergeError):
    @property
    def error_type(self) -> str:
        """What Greengrass lists under ``deployment-error-types`` for this code."""
        return GREENGRASS_TYPES[self.code]


class GreengrassArtifactError(_TypedError, ArtifactError):
    """The cloud does not give the artifact, however often it is asked."""


class GreengrassArtifactUnreachableError(_TypedError, ArtifactUnreachableError):
    """The cloud cannot be asked now."""


class GreengrassStore(HttpsStore):
    """The Greengrass cloud, and the storage that it points to."""

    def __init__(self, options: StoreOptions) -> None:
        super().__init__(options)
        locator = options.locator if isinstance(options, GreengrassStoreOptions) else None
        if locator is None:
            raise ArtifactError(
                "artifacts under greengrass: are fetched from Amazon's cloud, which this agent does not ask",
                hint="only Amazon's cloud serves these: set greengrass.enabled, or publish it under an https: URL",
                code="UNSUPPORTED_ARTIFACT_SCHEME",
            )
        self._locator = locator
        self._urls: dict[str, str] = {}

    @asynccontextmanager
    async def _open(self, uri: str, offset: int, version: str | None) -> AsyncIterator[Content]:
        held = uri in self._urls
        async with AsyncExitStack() as opened:
            try:
                content = await opened.enter_async_context(super()._open(await self._url(uri), offset, version))
            except ArtifactError as error:
                self._urls.pop(uri, None)
                if held and error.code == _RAN_OUT:
                    content = await opened.enter_async_context(self._open(uri, offset, version))
                elif error.code in _REFUSED and not isinstance(error, GreengrassArtifactError):
                    raise _undelivered(uri, error) from error
                else:
                    raise
            yield content

    async def _url(self, uri: str) -> str:
        if uri not in self._urls:
            arn, name = _parsed(uri)
            try:
                self._urls[uri] = await self._locator.artifact_url(arn, name)
            except InvalidInputError as error:
                raise GreengrassArtifactError(error.message, hint=error.hint, code=error.code) from error
            except UnreachableError as error:
                raise GreengrassArtifactUnreachableError(error.message, hint=error.hint, code=error.code) from error
        return self._urls[uri]


def _parsed(uri: str) -> tuple[str, str]:
    """The ARN and the artifact's name, unquoted."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise not_valid(uri, "only a recipe that came from the Greengrass cloud tells whose artifact it is")
    name = unquote(match[2])
    if _DOTS & set(name.split("/")) or not name.isprintable():
        raise not_valid(uri, "its name is no path of an artifact")
    return match[1], name


def _undelivered(uri: str, error: ArtifactError) -> GreengrassArtifactError:
    return GreengrassArtifactError(
        f"{shown(uri)}: {error.message}",
        hint="the URL that the cloud gave is refused; check the device's clock",
        code="DOWNLOAD_GREENGRASS_ARTIFACT_ERROR",
    )
