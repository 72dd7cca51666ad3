"""What an ``accessControl`` lets a component publish, as Greengrass reads it.

::

    {service: {policy id: {policyDescription, operations: […], resources: […]}}}

Nothing is granted that no policy grants.  A policy with a field that there is not voids every policy of the component;
one without operations is passed over.  In a resource ``*`` is any run of characters, slashes included; for topics ``+``
is one whole level and ``#`` whatever follows.  ``${*}``, ``${?}`` and ``${$}`` are the characters themselves; a bare
``?`` and any other ``${…}`` void the resource.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent.config.strict import nearest
from agent.greengrass.catalog import scalars

__all__ = ["allows", "publishing_refused"]

_SERVICE: Final = "aws.greengrass.ipc.mqttproxy"
_PUBLISH: Final = "aws.greengrass#PublishToIoTCore"
_FIELDS: Final = ("policyDescription", "operations", "resources")
_PIECES = re.compile(r"\$\{([*?$])\}|(\$\{)|(.)", re.DOTALL)
_ANY, _LEVEL = "any", "level"
_Token = tuple[str, str]


def publishing_refused(access: Any, topic: str) -> str | None:
    """Why a component may not publish on ``topic``; None where it may."""
    if access is None:
        return "there is no accessControl, and without one nothing is granted"
    services = scalars.mapping(access)
    if services is None:
        return "accessControl is no mapping of services"
    if problem := next(_problems(services), None):
        return f"{problem}, which voids every policy in it"
    granted = [resource for policy in _policies(services) for resource in _granted(policy)]
    if any(allows(resource, topic) for resource in granted):
        return None
    topics = ", ".join(map(repr, granted)) or "no topic at all"
    return f"its accessControl lets it publish on {topics}"


def allows(resource: str, topic: str) -> bool:
    """Whether a policy's resource covers a topic.

    >>> allows("ml/*", "ml/dlr/x"), allows("ml/+", "ml/dlr/x"), allows("ml/#", "ml")
    (True, False, True)
    """
    tokens = _tokens(resource)
    return tokens is not None and any(_runs(pattern, topic) for pattern in _patterns(tokens))


def _folded(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).lower(): value for key, value in entries.items()}


def _problems(services: Mapping[str, Any]) -> Iterator[str]:
    known = {name.lower() for name in _FIELDS}
    for service, policies in services.items():
        for name, policy in (scalars.mapping(policies) or {}).items():
            for field in scalars.mapping(policy) or {}:
                if field.lower() not in known:
                    guess = nearest(field, _FIELDS)
                    yield f"{service}.{name} has an unknown field {field}" + (f" ({guess})" if guess else "")


def _policies(services: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The policies of the service that publishes; a policy without a name voids them."""
    policies = scalars.mapping(_folded(services).get(_SERVICE)) or {}
    if all(name.strip() for name in policies):
        yield from (_folded(policy) for value in policies.values() if (policy := scalars.mapping(value)))


def _granted(policy: Mapping[str, Any]) -> Iterator[str]:
    if {_PUBLISH, "*"} & set(_texts(policy.get("operations"))):
        yield from _texts(policy.get("resources"))


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list | tuple) else []


def _tokens(resource: str) -> list[_Token] | None:
    """Characters as ``("=", c)``, wildcards by their names; None for a resource that is void."""
    tokens: list[_Token] = []
    for piece in _PIECES.finditer(resource):
        escaped, foreign, plain = piece.groups()
        if foreign or plain == "?":
            return None
        tokens.append((_ANY, "") if plain == "*" else ("=", escaped or plain))
    return tokens


def _patterns(tokens: list[_Token]) -> Iterator[list[_Token]]:
    """The resource with its whole-level wildcards; a trailing ``#`` also covers what stands before its slash."""
    levels: list[list[_Token]] = [[]]
    for token in tokens:
        if token == ("=", "/"):
            levels.append([])
        else:
            levels[-1].append(token)
    levels = [[(_LEVEL, "")] if level == [("=", "+")] else level for level in levels]
    *front, last = levels
    if last == [("=", "#")]:
        if front:
            yield _joined(front)
        levels = [*front, [(_ANY, "")]]
    yield _joined(levels)


def _joined(levels: list[list[_Token]]) -> list[_Token]:
    first, *rest = levels
    return first + [token for level in rest for token in (("=", "/"), *level)]


def _runs(pattern: list[_Token], topic: str) -> bool:
    """Whether the pattern is the whole topic: every place reached is followed at once, so that nothing backtracks."""
    places = _reached(pattern, {0})
    for letter in topic:
        places = _reached(pattern, {after for at in places for after in _step(pattern, at, letter)})
    return len(pattern) in places


def _step(pattern: list[_Token], at: int, letter: str) -> tuple[int, ...]:
    if at == len(pattern):
        return ()
    kind, wanted = pattern[at]
    if kind == _ANY or (kind == _LEVEL and letter != "/"):
        return (at,)
    return (at + 1,) if kind == "=" and wanted == letter else ()


def _reached(pattern: list[_Token], places: set[int]) -> set[int]:
    """The places, and those behind wildcards, which may be empty."""
    reached = set(places)
    for at in places:
        while at < len(pattern) and pattern[at][0] != "=":
            at += 1  # noqa: PLW2901 the place moves on
            reached.add(at)
    return reached
