"""A new certificate by job, while the old one stays in use until the new one is proved.

The document of the job::

    {"operation": "verge:rotate-certificate", "template": "verge-rotation", "parameters": {"SerialNumber": "17"}}

New key → signed over the connection that is there → registered by the template, which makes the certificate active and
attaches it to the same thing → connected with it → the links of the identity's folder changed.  Whatever fails before
that leaves the old one in use.  A connection lasts: the transport uses the new one from its next connection on, and
``verge provision rollback`` goes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from agent.aws.provision.errors import ProvisioningError
from agent.aws.provision.home import AUTHORITIES, CERTIFICATE, KEY, Home
from agent.aws.provision.identity import Identity
from agent.aws.provision.keys import certificate_facts, check_pair, new_key, request
from agent.aws.provision.prove import prove
from agent.config.strict import convert
from agent.config.transports import IotCoreOptions
from agent.errors import ConfigError
from agent.mqtt.transport import Transport

__all__ = ["OPERATION", "RotateWish", "is_rotation", "rotate", "rotation"]

OPERATION: Final = "verge:rotate-certificate"


class RotateWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The job document."""

    operation: Literal["verge:rotate-certificate"]
    template: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_-]{1,36}$")]
    parameters: dict[str, str] = {}
    """For the template; ``ThingName`` is the thing's where it is not given."""


def is_rotation(document: bytes) -> bool:
    """Whether a job document asks for this operation, well or badly."""
    try:
        told: Any = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(told, dict) and told.get("operation") == OPERATION


def rotation(document: bytes) -> RotateWish:
    """The wish; raises ``ProvisioningError`` for a document that is not as it should be."""
    try:
        return convert(RotateWish, msgspec.json.decode(document), "the job document")
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigError) as error:
        raise ProvisioningError(f"{error}", code="bad-document", hint="it needs operation and template") from error


async def rotate(
    wish: RotateWish, thing: str, home: Home, options: IotCoreOptions, transport: Transport, *, patience_s: float = 30.0
) -> Mapping[str, str]:
    """Carry it out over the connected ``transport``; what to report.  Raises ``VergeError``, then nothing changed.

    ``options`` are those of the transport, whose files are the current ones of ``home``.
    """
    before = certificate_facts(home.current.certificate.read_bytes())
    identity = Identity(transport, patience_s=patience_s)
    with home.staging() as staged:
        key = new_key()
        staged.write(KEY, key)
        signed = await identity.sign(request(key, thing))
        staged.write(CERTIFICATE, signed.certificate)
        registered = await identity.register(wish.template, signed.token, {"ThingName": thing, **wish.parameters})
        if registered.thing != thing:
            raise ProvisioningError(
                f"the template registered the certificate for {registered.thing}, not for {thing}",
                code="another-thing",
                hint="let the template take the thing's name from the parameter ThingName",
            )
        facts = check_pair(signed.certificate, key)
        if home.current.authorities is not None:
            staged.write(AUTHORITIES, home.current.authorities.read_bytes())
        files = {"cert_file": str(staged.certificate), "key_file": str(staged.key)}
        proof = await prove(replace(options, **files), thing)
        home.keep(staged)
    return {
        "certificateId": signed.id,
        "previousCertificateId": before.id,
        "expires": f"{facts.ends:%Y-%m-%dT%H:%M:%SZ}",
        "proof": str(proof),
    }
