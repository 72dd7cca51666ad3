"""AWS IoT policy documents: read, and evaluated.  Pure.

As IoT Core decides: whatever no statement allows is denied, and a statement that denies wins.  In resources ``*``
stands for any run of characters, slashes included, and ``?`` for one; MQTT's ``+`` and ``#`` mean nothing there and
are compared as text, so that who may subscribe to ``a/*`` may subscribe to ``a/+/b``.  Policy variables are replaced
by the connection's values; a resource with a variable that it does not have matches nothing.  Conditions are not
decided here: a document that has one is refused rather than half understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from agent.config.strict import convert
from agent.errors import ConfigError, InvalidInputError

LIMIT = 2048
"""IoT Core's bound of a policy document in characters, blanks not counted."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_Words = str | tuple[str, ...]


class PolicyError(InvalidInputError):
    """A policy document that cannot be read, or holds a statement without a counterpart."""


class _WireStatement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    sid: str = msgspec.field(name="Sid", default="")
    effect: Literal["Allow", "Deny"] = msgspec.field(name="Effect")
    action: _Words = msgspec.field(name="Action")
    resource: _Words = msgspec.field(name="Resource")


class _WirePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    version: Literal["2012-10-17"] = msgspec.field(name="Version")
    statement: tuple[_WireStatement, ...] = msgspec.field(name="Statement")


@dataclass(frozen=True, slots=True)
class Statement:
    """Actions that are allowed or denied, and the resources."""

    sid: str
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Connection:
    """Who asks: the thing a certificate is attached to, connected with its name as client id."""

    thing: str
    region: str = "REGION"
    account: str = "ACCOUNT"
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further policy variables by name."""

    def known(self) -> dict[str, str]:
        """Every policy variable that this connection has."""
        return {"iot:Connection.Thing.ThingName": self.thing, "iot:ClientId": self.thing, **self.variables}

    def arn(self, kind: str, name: str) -> str:
        """A resource of this account: ``topic``, ``topicfilter``, ``client`` or ``rolealias``."""
        return f"arn:aws:iot:{self.region}:{self.account}:{kind}/{name}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document."""

    statements: tuple[Statement, ...]

    def allows(self, action: str, kind: str, name: str, who: Connection) -> bool:
        """Whether ``who`` may do ``iot:<action>`` with the resource ``<kind>/<name>``."""
        requested = who.arn(kind, name)
        matching = [
            one
            for one in self.statements
            if _any(one.actions, f"iot:{action}") and _any(resolved(one.resources, who), requested)
        ]
        return bool(matching) and all(one.allows for one in matching)


def read(text: str | bytes, name: str = "the policy") -> Policy:
    """The policy that a JSON document says; raises ``PolicyError``."""
    try:
        wire = convert(_WirePolicy, msgspec.json.decode(text), name)
    except (msgspec.DecodeError, ConfigError) as error:
        message = error.message if isinstance(error, ConfigError) else f"{name} is no JSON: {error}"
        raise PolicyError(message, hint="only Sid, Effect, Action and Resource are understood") from error
    return Policy(
        tuple(
            Statement(one.sid or f"statement {number}", one.effect == "Allow", _words(one.action), _words(one.resource))
            for number, one in enumerate(wire.statement, 1)
        )
    )


def size(text: str) -> int:
    """How long a document is as IoT Core counts it.

    >>> size('{ "Version": "2012-10-17" }')
    24
    """
    return len("".join(text.split()))


def resolved(resources: Iterable[str], who: Connection) -> tuple[str, ...]:
    """Resources with their variables replaced; one whose variable is unknown is left out."""
    known = who.known()
    return tuple(
        _VARIABLE.sub(lambda variable: known[variable[1]], resource)
        for resource in resources
        if all(name in known for name in _VARIABLE.findall(resource))
    )


def _words(value: _Words) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _any(patterns: Iterable[str], text: str) -> bool:
    return any(_pattern(wildcards).fullmatch(text) for wildcards in patterns)


def _pattern(wildcards: str) -> re.Pattern[str]:
    signs = {"*": ".*", "?": "."}
    return re.compile("".join(signs.get(sign, re.escape(sign)) for sign in wildcards), re.DOTALL)
