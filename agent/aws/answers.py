"""The answers of the IoT credentials provider: what they mean, and how long they hold.

Pure: a status and a body in, credentials or a refusal out.  Held are credentials until five minutes before they
expire and refusals for as long as the Greengrass nucleus does, so that a device that may not is no burden.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from agent.aws.credentials import Credentials
from agent.aws.errors import CredentialsError, CredentialsUnreachableError

__all__ = ["EARLY_S", "CredentialsRequest", "Refusal", "held_s", "parse", "refused"]

EARLY_S = 300.0
"""How long before they expire credentials are fetched anew."""

_OK = 200
_BAD_REQUEST, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 400, 403, 404, 429
_CLIENT_ERRORS, _SERVER_ERRORS = range(400, 500), range(500, 600)
_HELD_CLIENT_S, _HELD_SERVER_S, _HELD_OTHER_S = 120.0, 60.0, 300.0
_LONGEST = 300

_CALL = "aws iot describe-endpoint --endpoint-type iot:CredentialProvider"
_HINTS: Mapping[tuple[int, str], str] = {
    (_FORBIDDEN, "thing name"): "attach the device's certificate to the thing {thing}",
    (_FORBIDDEN, "certificate"): f"activate the device's certificate, and take the host that `{_CALL}` names",
    (_FORBIDDEN, ""): "allow iot:AssumeRoleWithCertificate on {arn} in the IoT policy of the device's certificate",
    (_NOT_FOUND, ""): "create the role alias {alias} in IoT Core, or mend aws.role_alias",
    (_BAD_REQUEST, "duration"): "lower the role alias's credential duration, or raise the role's maximum session",
    (_BAD_REQUEST, "assume"): "the role behind {alias} must exist and trust credentials.iot.amazonaws.com",
}
"""(Status, a word of the message) → what to do; the first that fits, so an empty word comes last."""


class _Keys(msgspec.Struct):
    accessKeyId: str  # noqa: N815 the provider's spelling
    secretAccessKey: str  # noqa: N815
    sessionToken: str  # noqa: N815
    expiration: datetime


class _Body(msgspec.Struct):
    credentials: _Keys


@dataclass(frozen=True, slots=True)
class CredentialsRequest:
    """The thing that asks, and the role alias that it asks for."""

    thing: str
    role_alias: str
    region: str = "*"
    account: str = "*"

    @property
    def arn(self) -> str:
        """The role alias's ARN, as far as it is known."""
        partition = "aws-cn" if self.region.startswith("cn-") else "aws"
        return f"arn:{partition}:iot:{self.region}:{self.account}:rolealias/{self.role_alias}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer without credentials."""

    status: int
    answer: str
    """The body, shortened to what a log can take."""


def parse(status: int, body: bytes, now: float) -> Credentials | Refusal:
    """The meaning of an answer that came at ``now``.

    Raises:
        CredentialsUnreachableError: it is no answer of the provider, or it has expired on arrival.
    """
    if status != _OK:
        return Refusal(status, _printable(body))
    try:
        keys = msgspec.json.decode(body, type=_Body).credentials
    except msgspec.MsgspecError:
        # Not even the error's text may be passed on: it could quote a secret.
        raise CredentialsUnreachableError(
            "the credentials endpoint answers with what are no credentials", hint="is aws.credentials_endpoint right?"
        ) from None
    expires = keys.expiration if keys.expiration.tzinfo else keys.expiration.replace(tzinfo=UTC)
    if expires.timestamp() <= now:
        raise CredentialsUnreachableError(
            f"the credentials endpoint gave credentials that expired at {expires:%Y-%m-%dT%H:%M:%SZ}",
            hint="check the device's clock",
        )
    return Credentials(keys.accessKeyId, keys.secretAccessKey, keys.sessionToken, expires)


def held_s(outcome: Credentials | Refusal, now: float) -> float:
    """How long the outcome of an answer that came at ``now`` stands; not at all is 0 or less."""
    if isinstance(outcome, Credentials):
        return outcome.expires.timestamp() - EARLY_S - now
    if outcome.status in _CLIENT_ERRORS:
        return _HELD_CLIENT_S
    return _HELD_SERVER_S if outcome.status in _SERVER_ERRORS else _HELD_OTHER_S


def refused(refusal: Refusal, request: CredentialsRequest) -> CredentialsError | CredentialsUnreachableError:
    """The error of a refusal: a sentence, and what to do about it."""
    said = _message(refusal.answer)
    message = f"no credentials for {request.thing} by the role alias {request.role_alias}: "
    message += f"the endpoint answers {refusal.status}" + (f", {said}" if said else "")
    if refusal.status in _CLIENT_ERRORS and refusal.status != _TOO_MANY:
        hint = _hint(refusal.status, said.lower()).format(
            thing=request.thing, alias=request.role_alias, arn=request.arn
        )
        return CredentialsError(message, hint=hint, status=refusal.status, answer=refusal.answer)
    hint = "the credentials endpoint has trouble, or is asked too often"
    return CredentialsUnreachableError(message, hint=hint, status=refusal.status, answer=refusal.answer)


def _hint(status: int, message: str) -> str:
    fitting = (hint for (known, word), hint in _HINTS.items() if known == status and word in message)
    return next(fitting, "check aws.credentials_endpoint, aws.role_alias and the thing's name")


def _message(answer: str) -> str:
    try:
        body = msgspec.json.decode(answer, type=dict[str, str])
    except msgspec.MsgspecError:
        return ""
    return body.get("message", body.get("Message", ""))


def _printable(body: bytes) -> str:
    return re.sub(r"[^\x20-\x7e]+", " ", body.decode(errors="replace"))[:_LONGEST].strip()
