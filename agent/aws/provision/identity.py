"""AWS IoT's fleet provisioning over a transport: keys signed, a thing registered.

Over the ``Transport`` seam and not over awsiotsdk's identity client: that one wants a connection of its own, and a
device that renews its certificate must ask over the connection it has, for its client id can be connected once only.
The service has no tokens that distinguish answers, so one request is made at a time.  It is not repeated either: every
repetition would make another certificate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from agent.aws.provision.errors import ProvisioningError, ProvisioningUnreachableError
from agent.config.strict import convert
from agent.errors import ConfigError, VergeError
from agent.mqtt.transport import Message, Transport

__all__ = ["FleetProvisioning", "Registered", "Signed", "registration_topic"]

_T = TypeVar("_T", bound=msgspec.Struct)

_QOS: Final = 1
_KEYS, _CSR = "$aws/certificates/create/json", "$aws/certificates/create-from-csr/json"
_AGAIN: Final = frozenset((429, 500, 503))
_HINTS: Final = {
    "InvalidCertificateOwnershipToken": "the token holds for an hour: provision again from the start",
    "InvalidParameters": "give the parameters that the template asks for: --parameter NAME=VALUE",
    "TemplateNotFound": "check --template, and the region of the endpoint",
    "ResourceNotFound": "check --template, and the region of the endpoint",
    "AccessDenied": "the template's role, its pre-provisioning hook or the claim's policy does not allow it",
    "ThrottlingException": "wait some seconds and run it again",
}


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate that is not active yet, and the token that lets its owner register it."""

    certificate: bytes
    id: str
    token: str = field(repr=False)
    key: bytes | None = field(default=None, repr=False)
    """Where the service made it."""


@dataclass(frozen=True, slots=True)
class Registered:
    """The thing that a template made, or found, for a certificate."""

    thing: str
    configuration: Mapping[str, str]


class _Certificate(msgspec.Struct, frozen=True, rename="camel"):
    certificate_id: str
    certificate_pem: str
    certificate_ownership_token: str
    private_key: str = ""


class _Thing(msgspec.Struct, frozen=True, rename="camel"):
    thing_name: str
    device_configuration: dict[str, str] = {}


class _Rejected(msgspec.Struct, frozen=True, rename="camel"):
    status_code: int = 0
    error_code: str = ""
    error_message: str = ""


def registration_topic(template: str) -> str:
    """Where a thing is registered by a template."""
    return f"$aws/provisioning-templates/{template}/provision/json"


class FleetProvisioning:
    """The service on a connected ``transport``; for each answer it waits ``timeout_s``.

    Raises ``ProvisioningError`` for what the service rejects and ``ProvisioningUnreachableError`` for its silence.
    """

    def __init__(self, transport: Transport, *, timeout_s: float = 30.0) -> None:
        self._transport = transport
        self._timeout_s = timeout_s

    async def sign(self, csr: str) -> Signed:
        """A certificate for the key that signed ``csr``; the key stays where it is."""
        made = await self._ask(_CSR, {"certificateSigningRequest": csr}, _Certificate)
        return Signed(made.certificate_pem.encode(), made.certificate_id, made.certificate_ownership_token)

    async def make(self) -> Signed:
        """A certificate with a key that the service makes: it travels over the connection once."""
        made = await self._ask(_KEYS, {}, _Certificate)
        key = made.private_key.encode()
        return Signed(made.certificate_pem.encode(), made.certificate_id, made.certificate_ownership_token, key)

    async def register(self, template: str, token: str, parameters: Mapping[str, str]) -> Registered:
        """Have the template make the certificate active, and a thing of it."""
        request = {"certificateOwnershipToken": token, "parameters": dict(parameters)}
        registered = await self._ask(registration_topic(template), request, _Thing)
        return Registered(registered.thing_name, registered.device_configuration)

    async def _ask(self, topic: str, request: Mapping[str, Any], kind: type[_T]) -> _T:
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def on_answer(message: Message) -> None:
            if not answered.done():
                answered.set_result(message)

        def delivered(error: VergeError | None) -> None:
            if error is not None and not answered.done():
                answered.set_exception(error)

        answers = (f"{topic}/accepted", f"{topic}/rejected")
        for answer_topic in answers:
            self._transport.subscribe(answer_topic, on_answer, qos=_QOS)
        try:
            self._transport.publish(Message(topic, msgspec.json.encode(request), qos=_QOS), delivered)
            answer = await asyncio.wait_for(answered, self._timeout_s)
        except TimeoutError:
            raise self._timed_out(topic) from None
        finally:
            for answer_topic in answers:
                self._transport.unsubscribe(answer_topic, on_answer)
        return _read(answer, kind)

    def _timed_out(self, topic: str) -> VergeError:
        refused = getattr(self._transport, "refused", {})
        reasons = [f"{answers}: {why}" for answers, why in refused.items() if answers.startswith(topic)]
        if reasons:
            return ProvisioningError(
                f"the answers on {'; '.join(reasons)}", hint="let its policy have iot:Subscribe there, and iot:Receive"
            )
        return ProvisioningUnreachableError(
            f"nothing was answered on {topic} within {self._timeout_s:g} s",
            hint="its policy has to allow iot:Publish there, and iot:Subscribe and iot:Receive on the answers",
        )


def _read(answer: Message, kind: type[_T]) -> _T:
    try:
        payload = msgspec.json.decode(answer.payload)
        if answer.topic.endswith("/accepted"):
            return convert(kind, payload, answer.topic)
        rejected = convert(_Rejected, payload, answer.topic)
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigError) as error:
        raise ProvisioningError(f"the answer on {answer.topic} is not as it should be: {error}") from error
    reason = f"{rejected.error_code or 'error'} ({rejected.status_code}): {rejected.error_message}"
    hint = _HINTS.get(rejected.error_code)
    if rejected.status_code in _AGAIN:
        raise ProvisioningUnreachableError(f"the service cannot do it now: {reason}", hint=hint or "run it again later")
    raise ProvisioningError(f"the service refused: {reason}", hint=hint or "see the template and the claim's policy")
