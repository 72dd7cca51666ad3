"""An identity for a new device: from files, or by a claim certificate; then its configuration.

Everything is made aside and proved first.  Then the identity becomes the current one in one step, and the configuration
is written in another: an interruption before leaves nothing, one between the two an identity that the next attempt
replaces.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.aws.provision.errors import ProvisioningError
from agent.aws.provision.home import AUTHORITIES, CERTIFICATE, KEY, Home, Pair
from agent.aws.provision.identity import Identity
from agent.aws.provision.keys import Facts, check_authorities, check_pair, new_key, request
from agent.aws.provision.prove import Proof, prove
from agent.aws.provision.template import configuration
from agent.config.transports import IotCoreOptions
from agent.files import write_atomically
from agent.mqtt.factory import create
from agent.mqtt.transport import Transport

__all__ = ["Claim", "Done", "Wish", "by_claim", "from_files"]

_CONNECT_S = 30.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be there in the end."""

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
    """A certificate that may ask for others, and the template that makes things of them."""

    certificate: Path
    key: Path
    template: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    their_key: bool = False
    """Let the service make the key; otherwise it is made here and never leaves."""


@dataclass(frozen=True, slots=True)
class Done:
    """What there is now."""

    thing: str
    config: Path
    pair: Pair
    facts: Facts
    proof: Proof


async def from_files(wish: Wish, thing: str, certificate: Path, key: Path) -> Done:
    """Take over a certificate and its key; raises ``VergeError`` and leaves nothing behind then."""
    _check(wish)
    with wish.home.staging() as staged:
        staged.write(CERTIFICATE, _read(certificate))
        staged.write(KEY, _read(key))
        return await _finish(wish, staged, thing)


async def by_claim(wish: Wish, claim: Claim, *, patience_s: float = 30.0) -> Done:
    """Get a certificate and a thing by fleet provisioning; raises ``VergeError`` and leaves nothing behind then."""
    _check(wish)
    check_pair(_read(claim.certificate), _read(claim.key), name="the claim certificate")
    with wish.home.staging() as staged:
        async with _connected(wish, claim) as transport:
            await transport.wait_connected(min(_CONNECT_S, patience_s))
            identity = Identity(transport, patience_s=patience_s)
            thing = await _obtain(identity, claim, staged)
        return await _finish(wish, staged, thing)


async def _obtain(identity: Identity, claim: Claim, staged: Pair) -> str:
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


async def _finish(wish: Wish, staged: Pair, thing: str) -> Done:
    facts = check_pair(_read(staged.certificate), _read(staged.key))
    if wish.ca is not None:
        staged.write(AUTHORITIES, _read(wish.ca))
    proof = await prove(_options(wish, staged), thing)
    authorities = staged.authorities
    pair = wish.home.keep(staged)
    told: dict[str, str | int] = {"endpoint": wish.endpoint}
    told |= {"cert_file": _named(pair.certificate, wish), "key_file": _named(pair.key, wish)}
    told |= {"ca_file": _named(pair.folder / AUTHORITIES, wish)} if authorities else {}
    told |= {"port": wish.port} if wish.port else {}
    write_atomically(wish.config, configuration(thing, told).encode(), 0o640)
    return Done(thing, wish.config, pair, facts, proof)


def _connected(wish: Wish, claim: Claim) -> Transport:
    """A connection with the claim certificate, for this one purpose."""
    options = IotCoreOptions(
        endpoint=wish.endpoint,
        port=wish.port,
        client_id=f"verge-claim-{uuid.uuid4().hex[:12]}",
        ca_file=str(wish.ca) if wish.ca else None,
        cert_file=str(claim.certificate),
        key_file=str(claim.key),
        clean_start=True,
        session_expiry_s=0,
    )
    return create("claim", options)


def _options(wish: Wish, pair: Pair) -> IotCoreOptions:
    return IotCoreOptions(
        endpoint=wish.endpoint,
        port=wish.port,
        ca_file=str(wish.ca) if wish.ca else None,
        cert_file=str(pair.certificate),
        key_file=str(pair.key),
    )


def _check(wish: Wish) -> None:
    if wish.config.exists() and not wish.force:
        raise ProvisioningError(
            f"{wish.config} is there already", code="config-exists", hint="--force replaces it and its identity"
        )
    if not wish.config.parent.is_dir():
        raise ProvisioningError(f"there is no folder {wish.config.parent}", code="no-folder", hint="make it first")
    if wish.ca is not None:
        check_authorities(_read(wish.ca), str(wish.ca))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProvisioningError(
            f"{path} cannot be read: {error.strerror}", code="file-missing", hint="check the path and who may read it"
        ) from error


def _named(path: Path, wish: Wish) -> str:
    """As the configuration names it: from its own folder where it is below that."""
    path, start = Path(os.path.abspath(path)), Path(os.path.abspath(wish.config.parent))  # noqa: PTH100 links stay
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)
