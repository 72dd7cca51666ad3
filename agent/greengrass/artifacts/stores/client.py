"""The HTTP client behind ``https``: proxies, TLS, ranges and redirects.  Its methods block.

urllib3 logs each request's path with its query, where signatures stand; that logger is kept quiet.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import threading
from urllib.parse import SplitResult, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout, make_headers
from urllib3.exceptions import LocationValueError

from agent.config.deployments import StoreOptions
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.uri import not_valid, shown, split

__all__ = ["Client"]

_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_PORTS = {"https": 443, "http": 80}

logging.getLogger(urllib3.__name__).setLevel(logging.WARNING)


class Client:
    """Thread-safe; holds connections until closed."""

    def __init__(self, options: StoreOptions) -> None:
        self._options = options
        self._timeout = Timeout(connect=options.connect_timeout_s, read=options.read_timeout_s)
        self._managers: dict[str | None, PoolManager] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections that wait for a next request."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()

    def get(self, uri: str, offset: int, version: str | None) -> BaseHTTPResponse:
        """The answer to a request for the bytes from ``offset`` on, its body unread.

        Raises:
            ArtifactError: the URI, a redirect or the configuration cannot be used.
            urllib3.exceptions.HTTPError: there was no answer.
        """
        first = place = self._permitted(split(uri), uri)
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._request(place, uri, _headers(first, place, offset, version))
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            place = self._redirected(place, location, uri)
        raise ArtifactError(
            f"{shown(uri)}: more than {_MAX_REDIRECTS} redirects",
            hint="the server sends in circles",
            code="HTTP_REQUEST_ERROR",
        )

    def _request(self, place: SplitResult, uri: str, headers: dict[str, str]) -> BaseHTTPResponse:
        bare = place._replace(netloc=place.netloc.rpartition("@")[2], fragment="").geturl()
        try:
            return self._manager(place).request(
                "GET",
                bare,
                headers=headers,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
                timeout=self._timeout,
            )
        except (LocationValueError, UnicodeError):
            raise not_valid(uri, "its host cannot be read") from None  # the error's text may hold a password

    def _permitted(self, place: SplitResult, uri: str) -> SplitResult:
        host = place.hostname or ""
        if not host:
            raise not_valid(uri, "it names no host")
        allowed = place.scheme == "https" or (
            place.scheme == "http" and (_is_loopback(host) or host in self._options.plain_http_hosts)
        )
        if not allowed:
            raise ArtifactError(
                f"{shown(place.geturl())} is not fetched without encryption",
                hint=f"use https, or allow the host {host!r} by name in plain_http_hosts",
                code="UNSUPPORTED_ARTIFACT_SCHEME",
            )
        return place

    def _redirected(self, place: SplitResult, location: str, uri: str) -> SplitResult:
        try:
            following = urlsplit(urljoin(place.geturl(), location))
            _ = following.port
        except ValueError:
            raise not_valid(uri, "it redirects to what is no URL") from None
        if place.scheme == "https" and following.scheme != "https":
            raise ArtifactError(
                f"{shown(uri)} redirects away from https",
                hint="have the server redirect to https only",
                code="HTTP_REQUEST_ERROR",
            )
        return self._permitted(following, uri)

    def _manager(self, place: SplitResult) -> PoolManager:
        proxy = self._proxy(place)
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = self._create(proxy)
            return self._managers[proxy]

    def _proxy(self, place: SplitResult) -> str | None:
        host = place.hostname or ""
        if _is_loopback(host) or proxy_bypass(place.netloc.rpartition("@")[2]):
            return None
        proxies = getproxies()
        proxy = self._options.proxy or proxies.get(place.scheme) or proxies.get("all")
        return proxy if proxy is None or "://" in proxy else f"http://{proxy}"

    def _create(self, proxy: str | None) -> PoolManager:
        context = self._context()
        if proxy is None:
            return PoolManager(ssl_context=context, maxsize=4)
        parts = urlsplit(proxy)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        headers = make_headers(proxy_basic_auth=_credentials(parts)) if parts.username else None
        try:
            return ProxyManager(bare, proxy_headers=headers, ssl_context=context, maxsize=4)
        except (urllib3.exceptions.HTTPError, ValueError):
            raise ArtifactError(
                f"the proxy {shown(proxy)} cannot be used",
                hint="write it as http://host:port",
                code="DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD",
            ) from None

    def _context(self) -> ssl.SSLContext:
        options = self._options
        try:
            context = ssl.create_default_context(cafile=options.ca_file)
            if options.cert_file:
                context.load_cert_chain(options.cert_file, options.key_file)
        except OSError as error:  # ssl.SSLError is one
            raise ArtifactError(
                f"the TLS files of the artifact stores cannot be used: {error.strerror or error}",
                hint="check ca_file, cert_file and key_file: PEM, and readable by the agent",
                code="DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD",
            ) from error
        return context


def _headers(first: SplitResult, place: SplitResult, offset: int, version: str | None) -> dict[str, str]:
    headers = {"accept-encoding": "identity", "user-agent": "verge"}
    if offset:
        headers["range"] = f"bytes={offset}-"
        if version:
            headers["if-range"] = version
    if first.username and _origin(first) == _origin(place):
        headers |= make_headers(basic_auth=_credentials(first))
    return headers


def _credentials(place: SplitResult) -> str:
    return f"{unquote(place.username or '')}:{unquote(place.password or '')}"


def _origin(place: SplitResult) -> tuple[str, str | None, int | None]:
    return place.scheme, place.hostname, place.port or _PORTS.get(place.scheme)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
