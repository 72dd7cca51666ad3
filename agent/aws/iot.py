"""The IoT credentials provider: the device's certificate for temporary credentials of a role.

One request at a time, over mutual TLS; who asks meanwhile waits for its answer.  Answers, refusals too, are held as
``answers`` says; a missing answer is not.  The certificate's files are read for each request, so a rotated one
holds from the next on.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import PoolManager, ProxyManager, Timeout, make_headers

from agent.aws import answers
from agent.aws.answers import CredentialsRequest, Refusal
from agent.aws.credentials import Credentials
from agent.aws.errors import CredentialsError, CredentialsUnreachableError
from agent.config.aws import AwsOptions
from agent.errors import ConfigError

__all__ = ["IotCredentials"]

_HOST = re.compile(r"[A-Za-z0-9.-]+(:\d{1,5})?")
_MAX_ANSWER_BYTES = 64 * 1024
_TIMEOUT = Timeout(connect=5.0, read=5.0)


@dataclass(frozen=True, slots=True)
class _Held:
    outcome: Credentials | Refusal
    since: float
    until: float

    def good(self, now: float) -> bool:
        """A clock that was set back makes nothing last longer."""
        return self.since <= now < self.until


class IotCredentials:
    """Credentials of the role behind a role alias; thread-safe.

    ``endpoint`` is a host, with a port if it is not 443.  ``clock`` gives the seconds since 1970.
    """

    def __init__(
        self,
        request: CredentialsRequest,
        endpoint: str,
        *,
        cert_file: str,
        key_file: str,
        ca_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._request = request
        self._url = f"https://{endpoint}/role-aliases/{request.role_alias}/credentials"
        self._cert_file, self._key_file, self._ca_file = cert_file, key_file, ca_file
        self._clock = clock
        self._lock = threading.Lock()
        self._held: _Held | None = None

    @classmethod
    def of(cls, options: AwsOptions, thing: str) -> Self | None:
        """The provider that the configuration asks for, None when it names no role alias.

        Raises ``ConfigError`` when something that it needs is missing or no host.
        """
        if not options.role_alias:
            return None
        if not (options.cert_file and options.key_file):
            raise ConfigError(
                "aws.role_alias needs the device's certificate",
                code="aws-no-certificate",
                hint="set aws.cert_file and aws.key_file, or use a transport of the type iotcore",
                path="cert_file",
            )
        return cls(
            CredentialsRequest(thing, options.role_alias, options.place() or "*", options.account or "*"),
            _host(options.credentials_endpoint),
            cert_file=options.cert_file,
            key_file=options.key_file,
            ca_file=options.ca_file,
        )

    def get(self) -> Credentials:
        """Credentials that hold for minutes yet; raises as ``CredentialsProvider`` says."""
        with self._lock:
            if self._held is None or not self._held.good(self._clock()):
                self._held = None
                outcome = answers.parse(*self._ask(), now := self._clock())
                self._held = _Held(outcome, now, now + answers.held_s(outcome, now))
            outcome = self._held.outcome
        if isinstance(outcome, Refusal):
            raise answers.refused(outcome, self._request)
        return outcome

    def _ask(self) -> tuple[int, bytes]:
        try:
            with self._connections() as connections:
                response = connections.request(
                    "GET",
                    self._url,
                    headers={"x-amzn-iot-thingname": self._request.thing, "user-agent": "verge"},
                    preload_content=False,
                    redirect=False,
                    retries=False,
                    timeout=_TIMEOUT,
                )
                try:
                    return response.status, response.read(_MAX_ANSWER_BYTES)
                finally:
                    response.close()
        except urllib3.exceptions.HTTPError as error:
            raise self._not_connected(error) from error

    def _connections(self) -> PoolManager:
        context = self._context()
        host = urlsplit(self._url).netloc
        proxy = None if proxy_bypass(host) else getproxies().get("https")
        if proxy is None:
            return PoolManager(ssl_context=context)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        user, _, where = parts.netloc.rpartition("@")
        headers = make_headers(proxy_basic_auth=user) if user else None
        return ProxyManager(f"{parts.scheme}://{where}", proxy_headers=headers, ssl_context=context)

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
            context.load_cert_chain(self._cert_file, self._key_file, password=_no_password)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise CredentialsError(
                f"the device's certificate cannot be used: {getattr(error, 'strerror', None) or error}",
                hint=f"check {self._cert_file} and {self._key_file}: PEM, not encrypted, readable by the agent",
                code="DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD",
            ) from error
        return context

    def _not_connected(self, error: urllib3.exceptions.HTTPError) -> CredentialsError | CredentialsUnreachableError:
        host = urlsplit(self._url).netloc
        tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
        if tls is None or isinstance(tls, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
            return CredentialsUnreachableError(
                f"the credentials endpoint {host} cannot be reached: {_reason(error)}",
                hint="check the network, the proxy and aws.credentials_endpoint",
                code="NETWORK_ERROR",
            )
        return CredentialsError(
            f"no TLS with the credentials endpoint {host}: {_reason(error)}",
            hint="check aws.ca_file, the device's clock, and that IoT Core has its certificate active",
            code="TLS_HANDSHAKE_FAILURE",
        )


def _host(endpoint: str) -> str:
    if not _HOST.fullmatch(endpoint):
        raise ConfigError(
            f"aws.credentials_endpoint {endpoint!r} is no host" if endpoint else "aws.credentials_endpoint is missing",
            code="IOT_CRED_ENDPOINT_FORMAT_NOT_VALID",
            hint="`aws iot describe-endpoint --endpoint-type iot:CredentialProvider` prints it",
            path="credentials_endpoint",
        )
    return endpoint


def _no_password() -> str:
    """OpenSSL would ask the terminal, and an agent has none."""
    raise ValueError("the key is encrypted")


def _reason(error: BaseException) -> str:
    reasons = [
        getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or cause.strerror
        for cause in _causes(error)
        if isinstance(cause, OSError)
    ]
    return next((str(reason) for reason in reversed(reasons) if reason), type(error).__name__)


def _causes(error: BaseException) -> list[BaseException]:
    """The error and what led to it; urllib3 keeps some of that in ``args``."""
    causes: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        cause = waiting.pop(0)
        if cause is not None and cause not in causes:
            causes.append(cause)
            waiting += [argument for argument in cause.args if isinstance(argument, BaseException)]
            waiting += [cause.__cause__, cause.__context__]
    return causes
