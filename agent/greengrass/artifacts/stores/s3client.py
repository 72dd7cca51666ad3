"""The S3 client behind ``s3``: what an object is, and a part of its bytes.  Its methods block, and are thread-safe.

Nothing is retried here but a request that belongs in another region: how often and how long is the store's to
decide.  boto3 is imported with this module.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as sdk_errors
from botocore.config import Config
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from agent.aws import sdk
from agent.aws.errors import CredentialsError, CredentialsUnreachableError
from agent.errors import VergeError
from agent.greengrass.artifacts.store import AwsStoreOptions
from agent.greengrass.artifacts.stores import answers, s3answers
from agent.greengrass.artifacts.stores.s3answers import S3Answer, S3Error, S3Object, S3UnreachableError

__all__ = ["Facts", "S3Client"]

logger = logging.getLogger(__name__)

_CONFIG_CODE = "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD"
_FORBIDDEN = 403
_SERVER_ERROR = 500
_LONGEST = 300
_UNREACHED = (
    sdk_errors.HTTPClientError,
    sdk_errors.ConnectionError,
    sdk_errors.ResponseStreamingError,
    sdk_errors.IncompleteReadError,
)
_REFUSED: tuple[tuple[Any, str, str, str], ...] = (
    (
        (sdk_errors.NoCredentialsError, sdk_errors.PartialCredentialsError),
        _CONFIG_CODE,
        "{what}: there are no AWS credentials",
        "set aws.role_alias and aws.credentials_endpoint, or what the AWS SDK reads (AWS_ACCESS_KEY_ID, …)",
    ),
    (sdk_errors.ParamValidationError, "S3_ARTIFACT_URI_NOT_VALID", "{what} is no object's address", "{error}"),
    (Exception, _CONFIG_CODE, "{what}: {error}", "check aws.region and the AWS SDK's settings"),
)
"""The SDK's refusals: what they are in our words; the first that fits."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What an object is now."""

    size: int
    etag: str
    kms_key: str | None
    owner: Mapping[str, str]
    """The arguments that have S3 check whose the bucket is."""


class S3Client:
    """S3 as ``options`` tell; raises ``S3Error`` when they cannot be used, or give no credentials."""

    def __init__(self, options: AwsStoreOptions) -> None:
        self._account = options.aws.account
        self._warned: set[str] = set()
        endpoint = options.aws.s3_endpoint_url
        if endpoint is not None:
            _check_encrypted(endpoint, options.plain_http_hosts)
        try:
            self._client = sdk.session(options.aws, options.credentials).client(
                "s3", endpoint_url=endpoint, verify=options.ca_file if endpoint else None, config=_config(options)
            )
        except (sdk_errors.BotoCoreError, ValueError, VergeError) as error:
            raise _translated(error, "the S3 client") from error
        self._client.meta.events.register("needs-retry.s3", self._notice_region)
        self._client.meta.events.register("before-call.s3.HeadBucket", _unasked)

    @property
    def region(self) -> str | None:
        """The region that is asked first."""
        region: str | None = self._client.meta.region_name
        return region

    def close(self) -> None:
        """Close the connections that wait for a next request."""
        self._client.close()

    def facts(self, place: S3Object) -> Facts:
        """What the object is now; raises ``S3Error`` or ``S3UnreachableError``."""
        asked = {"ExpectedBucketOwner": self._account} if self._account else {}
        try:
            answer, owner = self._head(place, asked)
        except sdk_errors.ClientError as error:
            raise s3answers.judge(_answer_of(error), place, region=self.region) from error
        except (sdk_errors.BotoCoreError, VergeError) as error:
            raise _translated(error, place.uri) from error
        if "SSECustomerAlgorithm" in answer:
            raise s3answers.sse_c(place)
        size = answer["ContentRange"].rpartition("/")[2] if "ContentRange" in answer else answer["ContentLength"]
        return Facts(int(size), answer["ETag"], answer.get("SSEKMSKeyId"), owner)

    def part(self, place: S3Object, facts: Facts, start: int, end: int) -> BaseHTTPResponse:
        """The bytes from ``start`` up to ``end`` of the object as the facts know it, not yet read."""
        try:
            answer = self._client.get_object(
                Bucket=place.bucket, Key=place.key, IfMatch=facts.etag, Range=f"bytes={start}-{end - 1}", **facts.owner
            )
        except sdk_errors.ClientError as error:
            raise s3answers.judge(_answer_of(error), place, region=self.region, kms_key=facts.kms_key) from error
        except (sdk_errors.BotoCoreError, VergeError) as error:
            raise _translated(error, place.uri) from error
        if answer["ContentLength"] != end - start:
            answer["Body"].close()
            raise S3Error(
                f"{place.uri}: {end - start} bytes were asked for, {answer['ContentLength']} are given",
                hint="what stands in for S3 has no ranges",
                code="S3_BAD_REQUEST",
            )
        # Without boto3's wrapper, which can be neither read as it comes nor broken off.
        response: BaseHTTPResponse = answer["Body"].__enter__()
        return response

    def _head(self, place: S3Object, owner: dict[str, str]) -> tuple[Mapping[str, Any], dict[str, str]]:
        """The object's head; a bucket of another account is warned of, and not asked for its owner again."""
        at = {"Bucket": place.bucket, "Key": place.key}
        try:
            return self._client.head_object(**at, **owner), owner
        except sdk_errors.ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status >= _SERVER_ERROR:
                raise
        if owner and status == _FORBIDDEN:
            with contextlib.suppress(sdk_errors.ClientError):
                answer = self._client.head_object(**at)
                self._warn(
                    f"the bucket {place.bucket} is not of the account {self._account}: "
                    "another decides what this device runs"
                )
                return answer, {}
        # A HEAD's refusal has no words; that of a GET has.
        answer = self._client.get_object(**at, Range="bytes=0-0")
        answer["Body"].close()
        return answer, {}

    def _notice_region(self, response: tuple[Any, Mapping[str, Any]] | None, **_: Any) -> None:
        """S3 tells where a bucket is when it was looked for elsewhere; the SDK goes there by itself."""
        headers = response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {}) if response else {}
        region = headers.get("x-amz-bucket-region")
        if region and region != self.region:
            self._warn(f"the bucket is in {region}, the device in {self.region}: fetched from there, at a price")

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            logger.warning("%s", sentence)


def _unasked(**_: Any) -> tuple[Any, Mapping[str, Any]]:
    """The answer to the SDK's asking for a bucket's region: it may not, and would ask again and again."""
    return SimpleNamespace(status_code=_FORBIDDEN), {"Error": {}, "ResponseMetadata": {"HTTPHeaders": {}}}


def _config(options: AwsStoreOptions) -> Config:
    endpoint = options.aws.s3_endpoint_url
    proxies = {"http": options.proxy, "https": options.proxy} if options.proxy else None
    return Config(
        connect_timeout=options.connect_timeout_s,
        read_timeout=options.read_timeout_s,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # What stands in for S3 rarely has a host name for each bucket.
        s3={"addressing_style": "path" if endpoint else "virtual"},
        proxies={} if endpoint and _is_loopback(urlsplit(endpoint).hostname) else proxies,
        # The digest has the last word, and holds for parts too.
        response_checksum_validation="when_required",
        user_agent_extra="verge",
    )


def _check_encrypted(endpoint: str, plain_http_hosts: Collection[str]) -> None:
    parts = urlsplit(endpoint)
    plain = parts.scheme == "http" and (_is_loopback(parts.hostname) or parts.hostname in plain_http_hosts)
    if not (plain or parts.scheme == "https") or not parts.hostname:
        raise S3Error(
            f"aws.s3_endpoint_url {endpoint!r} is not reached with encryption",
            hint="use https, or allow the host by name in plain_http_hosts",
            code=_CONFIG_CODE,
        )


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def _answer_of(error: sdk_errors.ClientError) -> S3Answer:
    body = error.response.get("Error", {})
    about = error.response.get("ResponseMetadata", {})
    region = body.get("Region") or about.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return S3Answer(about.get("HTTPStatusCode", 0), str(body.get("Code", "")), str(body.get("Message", "")), region)


def _translated(error: Exception, what: str) -> VergeError:
    """The error of a request that got no answer of S3's."""
    if isinstance(error, VergeError):
        return _without_credentials(error)
    if isinstance(error, sdk_errors.CredentialRetrievalError):
        hint = "where the AWS SDK gets its credentials has trouble"
        return S3UnreachableError(f"{what}: {error}", hint=hint, code="S3_ACCESS_DENIED")
    if isinstance(error, _UNREACHED):
        inner = error.kwargs.get("error")
        if isinstance(inner, HTTPError):
            return answers.not_connected(what, inner)
        return S3UnreachableError(f"{what}: {error}", hint="check the network, the proxy and aws.region")
    _, code, sentence, hint = next(row for row in _REFUSED if isinstance(error, row[0]))
    text = str(error)[:_LONGEST]
    return S3Error(sentence.format(what=what, error=text), hint=hint.format(error=text), code=code)


def _without_credentials(error: VergeError) -> VergeError:
    match error:
        case CredentialsError():
            return S3Error(error.message, hint=error.hint, code=error.code)
        case CredentialsUnreachableError():
            return S3UnreachableError(error.message, hint=error.hint, code=error.code)
        case _:
            return error
