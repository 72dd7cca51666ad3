"""An S3 object's address, and what S3 answers when it gives no object: whose mistake it is, and what to do about it.

A key is taken as it is written, as the Greengrass nucleus does: ``%20`` in it is no blank.
Pure: S3's answer in, an error in Greengrass's codes out.  A refused HEAD has no body; ``s3client`` fetches one with a
GET of one byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from agent.errors import VergeError
from agent.greengrass.artifacts.errors import TYPES, ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.uri import shown

__all__ = ["S3_TYPES", "S3Answer", "S3Error", "S3Object", "S3UnreachableError", "changed", "judge", "sse_c"]

_FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 403, 429, 500
_LONGEST = 400
_SSE = re.compile(r"server.side.encryption|SSE.C|customer.(?:provided|encryption).key", re.IGNORECASE)
_KMS_KEY = re.compile(r"arn:[\w-]+:kms:[\w:/*-]+")
_KMS_ACTION = re.compile(r"kms:\w+")
_REGIONS = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
_CHANGED = {"PreconditionFailed", "InvalidRange"}

_NO_KEY = ("S3_BAD_REQUEST", "its KMS key cannot be used", "enable the key, or encrypt the object with another")
_NOT_KNOWN = (
    "S3_ACCESS_DENIED",
    "S3 does not take the agent's credentials ({code})",
    "check the device's AWS credentials",
)
_WRONG: Mapping[str, tuple[str, str, str]] = {
    "NoSuchBucket": (
        "S3_GET_BUCKET_LOCATION_RESOURCE_NOT_FOUND",
        "there is no bucket {bucket}",
        "check the artifact's URI, and the account and region the bucket was made in",
    ),
    "NoSuchKey": (
        "S3_HEAD_OBJECT_RESOURCE_NOT_FOUND",
        "the bucket {bucket} has no object {key!r}",
        "publish the artifact, or mend its URI: a key is taken as it is written, upper and lower case and % too",
    ),
    "InvalidObjectState": (
        "S3_BAD_REQUEST",
        "the object is archived",
        "restore it, or store it in a class that can be read at once",
    ),
    "KMS.DisabledException": _NO_KEY,
    "KMS.KMSInvalidStateException": _NO_KEY,
    "KMS.NotFoundException": _NO_KEY,
    "InvalidAccessKeyId": _NOT_KNOWN,
    "SignatureDoesNotMatch": _NOT_KNOWN,
    "InvalidToken": _NOT_KNOWN,
    "InvalidSecurity": _NOT_KNOWN,
}
"""S3's code → ours, a sentence and a hint."""

_LATER: Mapping[str, tuple[str, str]] = {
    "SlowDown": ("THROTTLING_ERROR", "S3 asks for fewer requests"),
    "RequestTimeTooSkewed": ("S3_ACCESS_DENIED", "the device's clock is wrong: have it set, by NTP for instance"),
    "RequestExpired": ("S3_ACCESS_DENIED", "the device's clock is wrong: have it set, by NTP for instance"),
    "ExpiredToken": ("S3_ACCESS_DENIED", "the credentials have expired: check the device's clock"),
    "RequestTimeout": ("NETWORK_ERROR", "the link is too slow or broke off"),
}
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
_URI = re.compile(r"s3://([^/]+)/(.+)", re.IGNORECASE)
S3_TYPES: Mapping[str, str] = {
    **TYPES,
    "S3_ARTIFACT_URI_NOT_VALID": "COMPONENT_RECIPE_ERROR",
    "S3_ACCESS_DENIED": "PERMISSION_ERROR",
    "S3_GET_OBJECT_ACCESS_DENIED": "PERMISSION_ERROR",
    "S3_HEAD_OBJECT_RESOURCE_NOT_FOUND": "REQUEST_ERROR",
    "S3_GET_BUCKET_LOCATION_RESOURCE_NOT_FOUND": "REQUEST_ERROR",
    "S3_BAD_REQUEST": "DEPENDENCY_ERROR",
    "S3_ERROR": "DEPENDENCY_ERROR",
    "S3_SERVER_ERROR": "SERVER_ERROR",
    "CREDENTIAL_ENDPOINT_AUTH_FAILURE": "PERMISSION_ERROR",
    "CREDENTIAL_ENDPOINT_SERVER_ERROR": "SERVER_ERROR",
}
"""Code → error type, both in Greengrass's exact spelling."""


@dataclass(frozen=True, slots=True)
class S3Object:
    """An object in a bucket; ``uri`` is fit to be shown."""

    bucket: str
    key: str
    uri: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read ``s3://bucket/key``; raises ``S3Error`` when it cannot be fetched from."""
        match = _URI.fullmatch(uri)
        if match is None:
            raise S3Error(
                f"{shown(uri)} names no bucket and key",
                hint="write s3://BUCKET/KEY; `gdk component publish` fills in the bucket",
                code="S3_ARTIFACT_URI_NOT_VALID",
            )
        bucket, key = match.groups()
        if "." in bucket:
            raise S3Error(
                f"{shown(uri)}: the bucket's name has a dot, so S3's TLS certificate does not cover its host",
                hint="publish the artifact in a bucket without dots in its name, as AWS IoT Greengrass asks",
                code="S3_ARTIFACT_URI_NOT_VALID",
            )
        return cls(bucket, key, shown(uri))

    def arn(self, region: str | None) -> str:
        """What a policy calls the object; ``region`` tells the partition."""
        partition = next((name for start, name in _PARTITIONS.items() if (region or "").startswith(start)), "aws")
        return f"arn:{partition}:s3:::{self.bucket}/{self.key}"


class _TypedError(VergeError):
    @property
    def error_type(self) -> str:
        """What Greengrass lists under ``deployment-error-types`` for this code."""
        return S3_TYPES[self.code]


class S3Error(_TypedError, ArtifactError):
    """An artifact in S3 cannot be had, however often it is tried."""

    default_code = "S3_ERROR"


class S3UnreachableError(_TypedError, ArtifactUnreachableError):
    """An artifact in S3 cannot be had now."""


@dataclass(frozen=True, slots=True)
class S3Answer:
    """S3's answer: the HTTP status, its code (the status again where a HEAD has no body) and its message."""

    status: int
    code: str
    message: str = ""
    region: str | None = None
    """Where the bucket is, if the answer names it."""


def judge(
    answer: S3Answer, place: S3Object, *, region: str | None = None, kms_key: str | None = None
) -> S3Error | S3UnreachableError:
    """The error that S3's answer means.

    ``region`` is the one that was asked, ``kms_key`` the key the object is encrypted with, if it is known.
    """
    if answer.code in _CHANGED:
        return changed(place)
    if answer.code in _LATER or answer.status >= _SERVER_ERROR or answer.status == _TOO_MANY:
        word = "SlowDown" if answer.status == _TOO_MANY else answer.code
        code, hint = _LATER.get(word, ("S3_SERVER_ERROR", "S3 or a server before it has trouble"))
        return S3UnreachableError(_sentence(place, answer), hint=hint, code=code)
    if answer.code == "InvalidRequest" and _SSE.search(answer.message):
        return sse_c(place)
    if answer.code in _REGIONS:
        return _elsewhere(answer, place, region)
    if answer.status == _FORBIDDEN and answer.code not in _WRONG:
        return _denied(answer, place, region, kms_key)
    return _wrong(answer, place)


def _wrong(answer: S3Answer, place: S3Object) -> S3Error:
    if answer.code not in _WRONG:
        return S3Error(
            _sentence(place, answer), hint="check the artifact's URI with `aws s3 cp`", code="S3_BAD_REQUEST"
        )
    code, sentence, hint = _WRONG[answer.code]
    text = sentence.format(bucket=place.bucket, key=place.key, code=answer.code)
    return S3Error(f"{place.uri}: {text}", hint=hint, code=code)


def sse_c(place: S3Object) -> S3Error:
    """The error of an object that only its uploader's key opens."""
    return S3Error(
        f"{place.uri} is encrypted with a key of whoever uploaded it (SSE-C), which devices do not have",
        hint="upload it anew with SSE-S3 or SSE-KMS",
        code="S3_BAD_REQUEST",
    )


def changed(place: S3Object) -> S3UnreachableError:
    """The error of an object that is not what it was when its download began."""
    return S3UnreachableError(
        f"{place.uri} was replaced under way", hint="it is fetched from the start", code="S3_SERVER_ERROR"
    )


def _denied(answer: S3Answer, place: S3Object, region: str | None, kms_key: str | None) -> S3Error:
    action = _KMS_ACTION.search(answer.message)
    if action or kms_key:
        named = _KMS_KEY.search(answer.message)
        missing = f"{action[0] if action else 'kms:Decrypt'} on {named[0] if named else kms_key or 'its KMS key'}"
        hint = f"allow {missing} in the policy of the device's role, and in the key's own"
    else:
        missing = f"s3:GetObject on {place.arn(region)}"
        hint = f"allow {missing} in the policy of the device's role; where s3:ListBucket is not allowed, S3 says "
        hint += "the same of an object that does not exist"
    detail = "" if answer.message in {"", "Access Denied", "Forbidden"} else f" (S3: {answer.message[:_LONGEST]})"
    return S3Error(f"{place.uri}: {missing} is not allowed{detail}", hint=hint, code="S3_GET_OBJECT_ACCESS_DENIED")


def _elsewhere(answer: S3Answer, place: S3Object, region: str | None) -> S3Error:
    where = f"in {answer.region}, not" if answer.region else "not"
    hint = "set aws.region to the bucket's, or publish the artifact in the device's region"
    return S3Error(f"{place.uri}: the bucket is {where} in {region}", hint=hint, code="S3_BAD_REQUEST")


def _sentence(place: S3Object, answer: S3Answer) -> str:
    code = f", {answer.code}" if answer.code != str(answer.status) else ""
    message = f": {answer.message[:_LONGEST]}" if answer.message else ""
    return f"{place.uri}: S3 answers {answer.status}{code}{message}"
