"""An identity for a new device: from files, or by a claim certificate; then its configuration.

Everything is made in a staging folder and proved first.  Then the identity becomes the current one in one step, and
the configuration is written in another: an interruption before leaves nothing, one between the two an identity that
the next attempt replaces.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.aws.provision.errors import ProvisioningError
from agent.aws.provision.home import AUTHORITIES, CERTIFICATE, KEY, Home, Pair
from agent.aws.provision.identity import FleetProvisioning
from agent.aws.provision.keys import CertificateFacts, check_authorities, check_pair, new_key, request
from agent.aws.provision.prove import Proof, prove
from agent.config.transports import IotCoreOptions
from agent.files import write_atomically
from agent.mqtt.factory import create
from agent.mqtt.transport import Transport

__all__ = ["Claim", "Enrolled", "Enrollment", "by_claim", "configuration", "from_files"]

_CONNECT_S = 30.0
_SHIPPED = Path(__file__).with_name("iot-core.toml")
_TABLE = "[transports.cloud]"


@dataclass(frozen=True, slots=True)
class Enrollment:
    """The options of a new identity."""

    config: Path
    """The file to write."""
    home: Home
    endpoint: str
    port: int | None = None
    ca: Path | None = None
    """Whom to trust; None is the system's."""
    force: bool = False
    """Whether a configuration that is there already may be replaced."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim certificate, which may ask for others, and the template that makes things of them."""

    certificate: Path
    key: Path
    template: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    their_key: bool = False
    """Let the service make the key; otherwise it is made here and never leaves."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The new identity and its configuration."""

    thing: str
    config: Path
    pair: Pair
    facts: CertificateFacts
    proof: Proof


async def from_files(enrollment: Enrollment, thing: str, certificate: Path, key: Path) -> Enrolled:
    """Take over a certificate and its key; raises ``VergeError`` and leaves nothing behind then."""
    _check(enrollment)
    with enrollment.home.staging() as staged:
        staged.write(CERTIFICATE, _read(certificate))
        staged.write(KEY, _read(key))
        return await _finish(enrollment, staged, thing)


async def by_claim(enrollment: Enrollment, claim: Claim, *, timeout_s: float = 30.0) -> Enrolled:
    """Get a certificate and a thing by fleet provisioning; raises ``VergeError`` and leaves nothing behind then."""
    _check(enrollment)
    check_pair(_read(claim.certificate), _read(claim.key), name="the claim certificate")
    with enrollment.home.staging() as staged:
        async with _connected(enrollment, claim) as transport:
            await transport.wait_connected(min(_CONNECT_S, timeout_s))
            identity = FleetProvisioning(transport, timeout_s=timeout_s)
            thing = await _obtain(identity, claim, staged)
        return await _finish(enrollment, staged, thing)


async def _obtain(identity: FleetProvisioning, claim: Claim, staged: Pair) -> str:
    """Fill ``staged``; the thing's name."""
    if claim.their_key:
        signed = await identity.make()
        staged.write(KEY, signed.key or b"")
    else:
        key = new_key()
        staged.write(KEY, key)
        signed = await identity.sign(request(key, claim.parameters.get("ThingName", "verge")))
    staged.write(CERTIFICATE, signed.certificate)
    return (await identity.register(claim.template, signed.token, claim.parameters)).thing


async def _finish(enrollment: Enrollment, staged: Pair, thing: str) -> Enrolled:
    facts = check_pair(_read(staged.certificate), _read(staged.key))
    if enrollment.ca is not None:
        staged.write(AUTHORITIES, _read(enrollment.ca))
    proof = await prove(_options(enrollment, staged), thing)
    authorities = staged.authorities
    pair = enrollment.home.keep(staged)
    values: dict[str, str | int] = {"endpoint": enrollment.endpoint}
    values |= {"cert_file": _named(pair.certificate, enrollment), "key_file": _named(pair.key, enrollment)}
    values |= {"ca_file": _named(pair.folder / AUTHORITIES, enrollment)} if authorities else {}
    values |= {"port": enrollment.port} if enrollment.port else {}
    write_atomically(enrollment.config, configuration(thing, values).encode(), 0o640)
    return Enrolled(thing, enrollment.config, pair, facts, proof)


def _connected(enrollment: Enrollment, claim: Claim) -> Transport:
    """A connection with the claim certificate, for this one purpose."""
    options = IotCoreOptions(
        endpoint=enrollment.endpoint,
        port=enrollment.port,
        client_id=f"verge-claim-{uuid.uuid4().hex[:12]}",
        ca_file=str(enrollment.ca) if enrollment.ca else None,
        cert_file=str(claim.certificate),
        key_file=str(claim.key),
        clean_start=True,
        session_expiry_s=0,
    )
    return create("claim", options)


def _options(enrollment: Enrollment, pair: Pair) -> IotCoreOptions:
    return IotCoreOptions(
        endpoint=enrollment.endpoint,
        port=enrollment.port,
        ca_file=str(enrollment.ca) if enrollment.ca else None,
        cert_file=str(pair.certificate),
        key_file=str(pair.key),
    )


def _check(enrollment: Enrollment) -> None:
    if enrollment.config.exists() and not enrollment.force:
        raise ProvisioningError(
            f"{enrollment.config} is there already", code="config-exists", hint="--force replaces it and its identity"
        )
    if not enrollment.config.parent.is_dir():
        raise ProvisioningError(
            f"there is no folder {enrollment.config.parent}", code="no-folder", hint="make it first"
        )
    if enrollment.ca is not None:
        check_authorities(_read(enrollment.ca), str(enrollment.ca))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProvisioningError(
            f"{path} cannot be read: {error.strerror}", code="file-missing", hint="check the path and who may read it"
        ) from error


def _named(path: Path, enrollment: Enrollment) -> str:
    """The path as the configuration names it: relative to its own folder where it is below that."""
    path, start = Path(os.path.abspath(path)), Path(os.path.abspath(enrollment.config.parent))  # noqa: PTH100 links stay
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)


# -- the configuration: the shipped one, with the thing's own values in it --------------------------------------


def configuration(thing: str, cloud: Mapping[str, str | int]) -> str:
    """TOML for ``thing``, with these values in ``[transports.cloud]``; each has a line there, maybe a commented one."""
    before, table, after = _SHIPPED.read_text().partition(_TABLE)
    for key, value in cloud.items():
        after = _with(after, key, value)
    return _with(before, "thing", thing) + table + after


def _with(text: str, key: str, value: str | int) -> str:
    line = f"{key} = {json.dumps(value)}"  # JSON's strings and numbers are TOML's
    changed, count = re.subn(rf'^(?:# )?{key} = (?:"[^"]*"|\d+)', lambda _: line, text, count=1, flags=re.MULTILINE)
    assert count == 1, key  # noqa: S101 the shipped file is ours, and a test looks at every key
    return changed
