"""The key list: who may deploy what, signed by those who may say so, replaced by the next one.

A list is a JSON document in an envelope (``signatures``), signed as ``keys``::

    {"type": "verge-keys", "version": 3, "issued": "2026-11-28T20:00:00Z", "expires": "2027-11-28T20:00:00Z",
     "keys": ["verge-ed25519 BASE64 anna", "verge-ed25519 BASE64 ben", "verge-ed25519 BASE64 build server"],
     "root": {"keys": ["ID", "ID"], "threshold": 2},
     "timestamp": {"keys": ["ID"]},
     "roles": {"line-3": {"keys": ["ID"], "things": ["press-*"], "groups": ["lab"], "components": ["com.acme.*"]}}}

``root`` signs lists, ``timestamp`` signs that nothing changed (``freshness``), and each of ``roles`` signs documents
and recipes for some things, groups and components; a threshold counts different keys.

The order of lists is that of The Update Framework's root metadata, but for one rule:

- A list is the device's when the threshold of the list before it signed it *and* its own threshold did.
- Its version is higher than that of the list before it: an older or equal one never comes back.  It need not be the
  next one, for a retained topic keeps only the newest: what makes a list safe is the signature of keys that the
  device trusts, and no gap weakens that.  A jump is bounded, so that nobody can use up the numbers.
- A list that has expired still replaces an older one, for it may revoke; but nothing that its keys sign is taken any
  more, only the list after it.

A device holds version 3, signed by anna and ben.  Version 4, in which carl takes ben's place and which needs two
signatures, is taken when anna and ben signed it (3 says so) and anna and carl did (4 says so): three signatures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal

import msgspec

from agent.errors import ConfigError
from agent.greengrass.trust.keys import PublicKey
from agent.greengrass.trust.signatures import NotTrustedError, SignedContent, SignedKind, signers

__all__ = [
    "KEYS_TYPE",
    "KeyList",
    "KeyListDocument",
    "Role",
    "RoleDocument",
    "Scope",
    "SignersDocument",
    "described",
    "first",
    "read",
    "successor",
]

KEYS_TYPE: Final = "verge-keys"
_MAX_STEP: Final = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z", description="a key's id, 16 hexadecimal digits")]
_Ids = Annotated[tuple[_Id, ...], msgspec.Meta(min_length=1, max_length=64)]
_Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_Patterns = Annotated[tuple[_Pattern, ...], msgspec.Meta(min_length=1, max_length=64)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]
_EVERY: Final = ("*",)


class SignersDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Keys by their ids, and how many of them have to sign."""

    keys: _Ids
    threshold: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1


class RoleDocument(SignersDocument, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Keys that may deploy and sign recipes; things, groups and components are names, or patterns with * and ?."""

    things: _Patterns = _EVERY
    groups: _Patterns = _EVERY
    components: _Patterns = _EVERY


class KeyListDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A list as it is written."""

    type: Literal["verge-keys"]
    version: Annotated[int, msgspec.Meta(ge=1, le=2**53)]
    issued: _Time
    expires: _Time | None = None
    keys: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=64)]
    root: SignersDocument
    timestamp: SignersDocument | None = None
    roles: Annotated[dict[str, RoleDocument], msgspec.Meta(max_length=64)] = {}


@dataclass(frozen=True, slots=True)
class Role:
    """Who signs together, and for what."""

    name: str
    keys: frozenset[str] = frozenset()
    threshold: int = 1
    things: tuple[str, ...] = _EVERY
    groups: tuple[str, ...] = _EVERY
    components: tuple[str, ...] = _EVERY

    def signed(self, signed_by: Iterable[PublicKey]) -> int:
        """How many of the role's keys are among these."""
        return len(self.keys & {key.id for key in signed_by})


@dataclass(frozen=True, slots=True)
class Scope:
    """What a document is going to change: on which thing, for which group, which components.

    The group of a rollback is ``*``: it changes what every group wants, and all of them have to be newer than it.
    """

    thing: str
    group: str
    components: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class KeyList:
    """The keys that a device trusts; version 0 is what its configuration lists, all of them for everything."""

    version: int = 0
    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    root: Role = Role("root")
    timestamp: Role = Role("timestamp")
    roles: tuple[Role, ...] = ()
    issued: float | None = None
    expires: float | None = None

    @classmethod
    def configured(cls, keys: Mapping[str, PublicKey]) -> KeyList:
        """Every key of a configuration, alone, for everything."""
        ids = frozenset(keys)
        return cls(0, keys, Role("root", ids), Role("timestamp", ids), (Role("trusted_keys", ids),) if ids else ())

    def expired(self, now: float) -> bool:
        """Whether nothing that its keys sign counts any more."""
        return self.expires is not None and self.expires <= now

    def refusal(self, signed_by: Iterable[PublicKey], scope: Scope) -> str | None:
        """Why these signers may not do this, as a sentence; None when they may.

        Each component needs one role that covers it, the thing and the group, and enough of whose keys signed.  What
        touches no component needs a role for the thing and the group.
        """
        signed_by = tuple(signed_by)
        components: list[str | None] = [*sorted(scope.components)] or [None]
        for component in components:
            if not any(_covers(role, scope, component) and role.signed(signed_by) >= role.threshold
                       for role in self.roles):  # fmt: skip
                return self._lacking(signed_by, scope, component)
        return None

    def recipe_refusal(self, signed_by: Iterable[PublicKey], component: str) -> str | None:
        """Why these signers may not publish a recipe of that component, as a sentence; None when they may."""
        signed_by = tuple(signed_by)
        for role in self.roles:
            if _any(role.components, component) and role.signed(signed_by) >= role.threshold:
                return None
        return f"{_named(signed_by)} may not sign recipes of {component}; {self._may(signed_by)}"

    def _lacking(self, signed_by: tuple[PublicKey, ...], scope: Scope, component: str | None) -> str:
        what = component or "even a set without components"
        short = [role for role in self.roles if _covers(role, scope, component) and role.signed(signed_by)]
        if short:
            role = short[0]
            return (
                f"{what} needs {role.threshold} signatures of the role {role.name}, "
                f"and {role.signed(signed_by)} came: {_named(signed_by)}"
            )
        where = f"to {scope.thing} for the group {scope.group}"
        return f"{_named(signed_by)} may not deploy {what} {where}; {self._may(signed_by)}"

    def _may(self, signed_by: tuple[PublicKey, ...]) -> str:
        held = [role for role in self.roles if role.signed(signed_by)]
        if not held:
            return "it has no role that deploys"
        return "; ".join(
            f"the role {role.name} is for components {', '.join(role.components)}, "
            f"things {', '.join(role.things)}, groups {', '.join(role.groups)}"
            for role in held
        )


def read(content: bytes) -> KeyList:
    """A list out of its envelope, whoever signed it.  Raises ``NotTrustedError``."""
    try:
        document = msgspec.json.decode(content, type=KeyListDocument)
        keys = _keys(document.keys)
        roles = tuple(_role(name, role, keys) for name, role in document.roles.items())
        root = _role("root", document.root, keys)
        timestamp = _role("timestamp", document.timestamp or document.root, keys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ConfigError) as error:
        raise NotTrustedError(f"the key list cannot be read: {error}", hint="`verge trust new` makes one") from error
    return KeyList(
        document.version, keys, root, timestamp, roles,
        document.issued.timestamp(), document.expires.timestamp() if document.expires else None,
    )  # fmt: skip


def first(signed: SignedContent) -> KeyList:
    """The list that a device begins with, because its configuration says so; its own root has to have signed it.

    Raises ``NotTrustedError``.
    """
    new = read(signed.content)
    _require(new, new, signed, "")
    return new


def successor(old: KeyList, signed: SignedContent) -> KeyList:
    """The list that takes the place of ``old``.

    Raises ``NotTrustedError`` for one that may not, and for one that is not newer.
    """
    new = read(signed.content)
    if new.version <= old.version:
        raise NotTrustedError(
            f"key list {new.version} is not newer than {old.version}, which this device has",
            hint="give the next one a higher version; `verge trust` does",
            code="REJECTED_STALE_DEPLOYMENT",
        )
    if new.version - old.version > _MAX_STEP:
        raise NotTrustedError(
            f"key list {new.version} is more than {_MAX_STEP} versions ahead of {old.version}, which this device has"
        )
    _require(old, new, signed, f" that this device has (version {old.version})" if old.version else "")
    _require(new, new, signed, " itself")
    return new


def described(keys: KeyList) -> dict[str, Any]:
    """A list as plain data, for status topics and programs."""

    def of(role: Role) -> dict[str, Any]:
        held = sorted((keys.keys[one] for one in role.keys), key=lambda key: (key.comment, key.id))
        return {"keys": [str(key) for key in held], "threshold": role.threshold}

    return {
        "version": keys.version,
        "issued": _iso(keys.issued),
        "expires": _iso(keys.expires),
        "root": of(keys.root),
        "timestamp": of(keys.timestamp),
        "roles": {
            role.name: of(role)
            | {"things": role.things, "groups": role.groups, "components": role.components}
            for role in keys.roles
        },
    }  # fmt: skip


def _require(signing: KeyList, new: KeyList, signed: SignedContent, which: str) -> None:
    """Have the root of ``signing`` signed the list ``new``."""
    came = signing.root.signed(signers(SignedKind.KEYS, signed.content, signed.signatures, signing.keys))
    if came < signing.root.threshold:
        whose = "the configuration's trusted keys" if not signing.version else f"the root of the list{which}"
        raise NotTrustedError(
            f"key list {new.version} has {came} of the {signing.root.threshold} signatures that it needs from {whose}",
            hint=f"sign it with {_named(signing.keys[key] for key in sorted(signing.root.keys))}: `verge trust sign`",
        )


def _keys(lines: Iterable[str]) -> Mapping[str, PublicKey]:
    keys: dict[str, PublicKey] = {}
    for line in lines:
        key = PublicKey.parse(line)
        if keys.setdefault(key.id, key) is not key:
            raise ConfigError(f"the key {key} is listed twice")
    return keys


def _role(name: str, document: SignersDocument, keys: Mapping[str, PublicKey]) -> Role:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name[:80]!r} is no name of a role: letters, digits, . _ - and no more than 64 of them")
    unknown = [key for key in document.keys if key not in keys]
    if unknown:
        raise ConfigError(f"the role {name} names the key {unknown[0]}, which is not in the list")
    ids = frozenset(document.keys)
    if len(ids) < document.threshold:
        raise ConfigError(f"the role {name} needs {document.threshold} signatures and has {len(ids)} keys")
    if isinstance(document, RoleDocument):
        return Role(name, ids, document.threshold, document.things, document.groups, document.components)
    return Role(name, ids, document.threshold)


def _covers(role: Role, scope: Scope, component: str | None) -> bool:
    group = _any(role.groups, scope.group) or _any(role.groups, scope.group.removeprefix("thinggroup/"))
    return _any(role.things, scope.thing) and group and (component is None or _any(role.components, component))


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _named(keys: Iterable[PublicKey]) -> str:
    return ", ".join(f"key {key}" for key in keys) or "nobody"


def _iso(moment: float | None) -> str | None:
    return None if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"
