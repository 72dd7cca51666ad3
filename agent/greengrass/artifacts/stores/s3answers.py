"""What S3 says when it gives no object: whose mistake it is, and what to do about it.

Pure: S3's own words in, an error out.  A HEAD's refusal has no words; ``s3client`` asks for them with a GET of a
byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.greengrass.artifacts.stores.s3errors import S3Error, S3UnreachableError
from agent.greengrass.artifacts.stores.s3place import Place

__all__ = ["Said", "changed", "judge", "sse_c"]

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


@dataclass(frozen=True, slots=True)
class Said:
    """S3's words: the HTTP status, its code (the status again where a HEAD has no body) and its message."""

    status: int
    code: str
    message: str = ""
    region: str | None = None
    """Where the bucket is, if S3 told."""


def judge(
    said: Said, place: Place, *, region: str | None = None, kms_key: str | None = None
) -> S3Error | S3UnreachableError:
    """The error that S3's words come to.

    ``region`` is the one that was asked, ``kms_key`` the key the object is encrypted with, if it is known.
    """
    if said.code in _CHANGED:
        return changed(place)
    if said.code in _LATER or said.status >= _SERVER_ERROR or said.status == _TOO_MANY:
        word = "SlowDown" if said.status == _TOO_MANY else said.code
        code, hint = _LATER.get(word, ("S3_SERVER_ERROR", "S3 or a server before it has trouble"))
        return S3UnreachableError(_sentence(place, said), hint=hint, code=code)
    if said.code == "InvalidRequest" and _SSE.search(said.message):
        return sse_c(place)
    if said.code in _REGIONS:
        return _elsewhere(said, place, region)
    if said.status == _FORBIDDEN and said.code not in _WRONG:
        return _denied(said, place, region, kms_key)
    return _wrong(said, place)


def _wrong(said: Said, place: Place) -> S3Error:
    if said.code not in _WRONG:
        return S3Error(_sentence(place, said), hint="check the artifact's URI with `aws s3 cp`", code="S3_BAD_REQUEST")
    code, sentence, hint = _WRONG[said.code]
    told = sentence.format(bucket=place.bucket, key=place.key, code=said.code)
    return S3Error(f"{place.uri}: {told}", hint=hint, code=code)


def sse_c(place: Place) -> S3Error:
    """The error of an object that only its uploader's key opens."""
    return S3Error(
        f"{place.uri} is encrypted with a key of whoever uploaded it (SSE-C), which devices do not have",
        hint="upload it anew with SSE-S3 or SSE-KMS",
        code="S3_BAD_REQUEST",
    )


def changed(place: Place) -> S3UnreachableError:
    """The error of an object that is not what it was when its download began."""
    return S3UnreachableError(
        f"{place.uri} was replaced under way", hint="it is fetched from the start", code="S3_SERVER_ERROR"
    )


def _denied(said: Said, place: Place, region: str | None, kms_key: str | None) -> S3Error:
    action = _KMS_ACTION.search(said.message)
    if action or kms_key:
        named = _KMS_KEY.search(said.message)
        missing = f"{action[0] if action else 'kms:Decrypt'} on {named[0] if named else kms_key or 'its KMS key'}"
        hint = f"allow {missing} in the policy of the device's role, and in the key's own"
    else:
        missing = f"s3:GetObject on {place.arn(region)}"
        hint = f"allow {missing} in the policy of the device's role; where s3:ListBucket is not allowed, S3 says "
        hint += "the same of an object that does not exist"
    told = "" if said.message in {"", "Access Denied", "Forbidden"} else f" (S3: {said.message[:_LONGEST]})"
    return S3Error(f"{place.uri}: {missing} is not allowed{told}", hint=hint, code="S3_GET_OBJECT_ACCESS_DENIED")


def _elsewhere(said: Said, place: Place, region: str | None) -> S3Error:
    where = f"in {said.region}, not" if said.region else "not"
    hint = "set aws.region to the bucket's, or publish the artifact in the device's region"
    return S3Error(f"{place.uri}: the bucket is {where} in {region}", hint=hint, code="S3_BAD_REQUEST")


def _sentence(place: Place, said: Said) -> str:
    told = f", {said.code}" if said.code != str(said.status) else ""
    message = f": {said.message[:_LONGEST]}" if said.message else ""
    return f"{place.uri}: S3 answers {said.status}{told}{message}"
