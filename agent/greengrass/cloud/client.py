"""The data plane's two requests: HTTPS with the device's certificate, on port 8443, or on 443 by Amazon's ALPN name.

urllib3 does the talking, in threads that a cancellation leaves behind to end at their timeouts.  Proxies and TLS files
are treated as for artifacts (``artifacts.stores.client``).  Requests are few, so each has a connection of its own and
a rotated certificate holds from the next one on.  What the cloud signs a URL for is fetched as any artifact is, without
the certificate.

What cannot be reached is tried again; a caller with something to fall back on gives up soon, as the nucleus does.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final

from urllib3.exceptions import HTTPError

from agent.aws.detached import detached
from agent.config.aws import GreengrassOptions
from agent.config.deployments import RetryPolicy, StoreOptions
from agent.errors import UnreachableError, VergeError
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.retry import OnRetry, persist
from agent.greengrass.artifacts.stores import answers
from agent.greengrass.artifacts.stores.client import Client
from agent.greengrass.artifacts.uri import split
from agent.greengrass.cloud import messages
from agent.greengrass.cloud.errors import GreengrassError, GreengrassUnreachableError
from agent.greengrass.cloud.messages import Question, Request, Resolved
from agent.greengrass.recipes.platform import Attributes
from agent.greengrass.recipes.versions import Version

__all__ = ["DataPlane"]

_SHORT: Final = RetryPolicy(base_s=1.0, cap_s=5.0, give_up_after_s=10.0)
_CONFIG_CODE: Final = "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD"


class DataPlane:
    """The cloud's data plane for a device; ``options`` are ``filled``.

    ``retry`` is for what nothing can replace, ``short_retry`` for the rest.
    """

    def __init__(
        self, options: GreengrassOptions, *, retry: RetryPolicy | None = None, short_retry: RetryPolicy = _SHORT
    ) -> None:
        self._options = options
        self._retry = retry or RetryPolicy()
        self._short_retry = short_retry

    async def resolve(
        self,
        question: Question,
        attributes: Attributes,
        candidate: Version | None = None,
        on_retry: OnRetry = lambda _retry: None,
    ) -> Resolved | None:
        """The version that the cloud chooses for a device that has ``candidate`` already; None if it has none.

        Raises:
            GreengrassError: the cloud refuses, or its answer is none.
            GreengrassUnreachableError: the cloud could not be reached until the retries were given up.
        """
        request = question.request(attributes, candidate)

        async def attempt() -> Resolved | None:
            status, body = await self._asked(request)
            if status == messages.NOT_FOUND:
                return None
            return question.answer(_accepted(request, status, body))

        retry = self._retry if candidate is None else self._short_retry
        return await persist(attempt, retry, question.name, on_retry=on_retry)

    async def artifact_url(self, arn: str, name: str) -> str:
        """A signed URL of an artifact, asked for once: the store that fetches retries.

        Raises:
            GreengrassError: the cloud refuses.
            GreengrassUnreachableError: the cloud cannot be asked now.
        """
        request = messages.artifact_request(arn, name)
        return messages.artifact_answer(_accepted(request, *await self._asked(request)))

    async def _asked(self, request: Request) -> tuple[int, bytes]:
        return await asyncio.wrap_future(detached(lambda: self._exchanged(request), "verge-greengrass"))

    def _exchanged(self, request: Request) -> tuple[int, bytes]:
        url = f"{self._options.base_url}{request.path}"
        connection = _Connection(self._options)
        try:
            return connection.ask(request.method, url, request.body)
        except HTTPError as error:
            raise _not_connected(url, error) from error
        except ArtifactError as error:
            raise GreengrassError(error.message, hint=error.hint, code=_CONFIG_CODE) from error
        finally:
            connection.close()


class _Context(ssl.SSLContext):
    """Offers one protocol, whatever urllib3 would."""

    offered = ""

    def set_alpn_protocols(self, alpn_protocols: Sequence[str]) -> None:  # type: ignore[override]
        super().set_alpn_protocols([self.offered] if self.offered else list(alpn_protocols))


class _Connection(Client):
    """The client of artifacts, with the device's certificate and any method."""

    def __init__(self, options: GreengrassOptions) -> None:
        super().__init__(
            StoreOptions(
                proxy=options.proxy,
                connect_timeout_s=options.connect_timeout_s,
                read_timeout_s=options.read_timeout_s,
            )
        )
        self._device = options

    def ask(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        """Status and body of an answer.  Raises ``HTTPError`` when there is none."""
        headers = {"accept": "application/json", "user-agent": "verge"}
        if body is not None:
            headers["content-type"] = "application/json"
        response = self._manager(split(url)).request(
            method, url, body=body, headers=headers, preload_content=False, redirect=False, retries=False,
            timeout=self._timeout,
        )  # fmt: skip
        try:
            return response.status, response.read(messages.MAX_ANSWER_BYTES)
        finally:
            response.close()

    def _context(self) -> ssl.SSLContext:
        device = self._device
        try:
            context = _Context(ssl.PROTOCOL_TLS_CLIENT)
            context.offered = device.alpn_used or ""
            if device.ca_file:
                context.load_verify_locations(device.ca_file)
            else:
                context.load_default_certs()
            context.load_cert_chain(device.cert_file or "", device.key_file, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise GreengrassError(
                f"the device's certificate cannot be used: {getattr(error, 'strerror', None) or error}",
                hint=f"check {device.cert_file}, {device.key_file} and {device.ca_file or 'the system authorities'}: "
                "PEM, not encrypted, readable by the agent",
                code=_CONFIG_CODE,
            ) from error
        return context


def _no_password() -> str:
    """OpenSSL would ask the terminal, and an agent has none."""
    raise ValueError("the key is encrypted")


def _accepted(request: Request, status: int, body: bytes) -> bytes:
    if status != messages.OK:
        raise messages.refusal(request.operation, status, body)
    return body


def _not_connected(url: str, error: HTTPError) -> VergeError:
    found = answers.not_connected(url, error)
    if isinstance(found, UnreachableError):
        return GreengrassUnreachableError(found.message, hint=found.hint, code=found.code)
    hint = "check that IoT Core has the device's certificate active, greengrass.ca_file and the device's clock"
    return GreengrassError(found.message, hint=hint, code=found.code)
