"""What a component may do over IPC: its ``accessControl``, compiled once and asked by operation and resource.

::

    accessControl: {SERVICE: {POLICY: {operations: […], resources: […], policyDescription}}}

Nothing is allowed that no policy allows.  As the nucleus has it: names of fields match in any case; the whole may be a
text that holds it; a field that nobody knows voids all policies of the component, a policy without an id those of its
service, one without operations itself.  Resources are patterns:

=====================  ==========================================================================================
``*``                  any characters, ``/`` included, and none
``${*} ${?} ${$}``     that character; any other ``${…}``, and ``?``, voids the resource
``#`` (IoT Core)       as the whole last level: that level and all below, and none
``+`` (IoT Core)       as a whole level: any one level
=====================  ==========================================================================================

``{iot:thingName}`` stands for the thing: the documentation writes policies so, and a nucleus fills it in only by a
setting that most do not know (lite: always).  (``AuthorizationModule.java``, ``WildcardTrie.java``.)
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from agent.greengrass.ipc.errors import UnauthorizedError
from agent.greengrass.ipc.operations import Call
from agent.greengrass.recipes.configuration import MISSING, Tree

__all__ = ["IOT_CORE", "Authorizer", "Policies", "ResourceKind", "pattern", "policies_of", "suggestion"]

log = logging.getLogger(__name__)

IOT_CORE: Final = "aws.greengrass.ipc.mqttproxy"
_CLI: Final = "aws.greengrass.Cli"
_PREFIX: Final = "aws.greengrass#"
_KEY: Final = "accessControl"
_THING: Final = "{iot:thingName}"
_ANY: Final = "*"
_RUN: Final = ".*"
_FIELDS: Final = frozenset(("policydescription", "operations", "resources"))
_MOST_PATTERNS: Final = 10_000
_LOGGED: Final = 32
"""Refusals of one component, as long as it is configured the same."""
_SHOWN: Final = 200
"""Characters of a resource in a sentence."""
_TOKEN: Final = re.compile(r"\$\{(.)\}|\$\{|\*|\?|[^*?$]+|\$", re.DOTALL)


class ResourceKind(Enum):
    """How resources of a service are written."""

    PLAIN = "plain"
    TOPIC = "topic"
    """With MQTT's wildcards besides ``*``."""


def pattern(resource: str, kind: ResourceKind) -> re.Pattern[str] | None:
    """What a resource of a policy matches, as an expression for the whole text; None where it is void.

    >>> bool(pattern("a/${*}", ResourceKind.PLAIN).fullmatch("a/*")), bool(pattern("a/+", ResourceKind.TOPIC))
    (True, True)
    """
    if kind is ResourceKind.PLAIN:
        return _compiled(list(_plain(resource)))
    levels = resource.split("/")
    below = levels[-1] == "#"
    if below:
        levels.pop()
    if not levels:
        return _compiled([_RUN])
    pieces: list[str | None] = []
    for number, level in enumerate(levels):
        pieces += ["/"] if number else []
        pieces += ["[^/]*"] if level == "+" else list(_plain(level))
    return _compiled([*pieces, "(?:/.*)?"] if below else pieces)


def _compiled(pieces: Sequence[str | None]) -> re.Pattern[str] | None:
    """All pieces as one expression; None where one is void.

    Each run of any characters but the last ends at the first place where what follows it is: so does a match end that
    there is, and a policy of many stars costs no time that grows with their number's power.
    """
    segments = [""]
    for piece in pieces:
        if piece is None:
            return None
        if piece == _RUN:
            segments.append("")
        else:
            segments[-1] += piece
    first, *rest = segments
    bounded = "".join(f"(?>{_RUN}?{segment})" for segment in rest[:-1])
    last = "".join(f"{_RUN}{segment}" for segment in rest[-1:])
    return re.compile(first + bounded + last, re.DOTALL)


def _plain(text: str) -> Iterator[str | None]:
    """The expression of a text in pieces; None for a piece that voids it."""
    for found in _TOKEN.finditer(text):
        piece, escaped = found[0], found[1]
        if escaped is not None:
            yield re.escape(escaped) if escaped in "*?$" else None
        elif piece == _ANY:
            yield _RUN
        else:
            yield None if piece in {"?", "${"} else re.escape(piece)


@dataclass(frozen=True, slots=True)
class Policies:
    """What one component may do; ``problems`` are sentences about policies that are not as they were meant."""

    rules: Mapping[tuple[str, str], tuple[re.Pattern[str], ...]] = field(default_factory=dict)
    """(service, operation without its prefix or ``*``) → what its resources match."""
    problems: tuple[str, ...] = ()

    def allows(self, service: str, operation: str, resource: str) -> bool:
        """Whether an operation may be done to a resource."""
        return any(
            one.fullmatch(resource) for named in (operation, _ANY) for one in self.rules.get((service, named), ())
        )

    def names(self, service: str, operation: str, resource: str) -> bool:
        """Whether an operation is allowed on a resource by a policy that names it, without wildcards."""
        literal = re.escape(resource)
        found = (one for named in (operation, _ANY) for one in self.rules.get((service, named), ()))
        return any(one.pattern == literal for one in found)


def policies_of(configuration: Mapping[str, Any], thing: str = "") -> Policies:
    """The policies of a component's configuration, with ``thing`` in the place of its variable."""
    given = next((value for key, value in configuration.items() if key.lower() == _KEY.lower()), None)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            return Policies(problems=(f"accessControl is a text that is no JSON: {error}",))
    if given is None:
        return Policies()
    if not isinstance(given, Mapping):
        return Policies(problems=("accessControl is no object",))
    return _Reader(thing).read(given)


class _Reader:
    """Reads the policies of one component."""

    def __init__(self, thing: str) -> None:
        self._thing = thing
        self._rules: dict[tuple[str, str], list[re.Pattern[str]]] = {}
        self._problems: list[str] = []
        self._patterns = 0

    def read(self, given: Mapping[str, Any]) -> Policies:
        unknown = [
            f"{service}/{policy}/{key}"
            for service, policies in given.items()
            for policy, content in _mapping(policies).items()
            for key in _mapping(content)
            if key.lower() not in _FIELDS
        ]
        if unknown:
            sentence = f"accessControl holds {unknown[0]}, which nobody knows: none of it counts"
            return Policies(problems=(sentence,))
        for service, policies in given.items():
            self._read_service(service, policies)
        return Policies({key: tuple(found) for key, found in self._rules.items()}, tuple(self._problems))

    def _read_service(self, service: str, policies: Any) -> None:
        if not isinstance(policies, Mapping) or any(not policy for policy in policies):
            self._problems.append(f"accessControl/{service} is no object of named policies: none of them counts")
            return
        for policy, content in policies.items():
            self._read_policy(service, f"accessControl/{service}/{policy}", _mapping(content))

    def _read_policy(self, service: str, place: str, content: Mapping[str, Any]) -> None:
        fields = {key.lower(): value for key, value in content.items()}
        operations, resources = _texts(fields.get("operations")), _texts(fields.get("resources"))
        if not operations:
            self._problems.append(f"{place} names no operations: it does not count")
            return
        kind = ResourceKind.TOPIC if service == IOT_CORE else ResourceKind.PLAIN
        for resource in resources:
            made = self._pattern(resource.replace(_THING, self._thing) if self._thing else resource, kind)
            if made is None:
                self._problems.append(f"{place}: the resource {resource!r} does not count")
                continue
            for operation in operations:
                self._rules.setdefault((service, operation.removeprefix(_PREFIX)), []).append(made)

    def _pattern(self, resource: str, kind: ResourceKind) -> re.Pattern[str] | None:
        self._patterns += 1
        return pattern(resource, kind) if self._patterns <= _MOST_PATTERNS else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []


def suggestion(component: str, service: str, operation: str, resource: str) -> str:
    """The policy that would allow it, in a line of JSON for the component's configuration."""
    literal = re.sub(r"[*?$]", lambda found: f"${{{found[0]}}}", resource) if resource != _ANY else _ANY
    short = service.removeprefix("aws.greengrass.").removeprefix("ipc.")
    policy = {"operations": [f"{_PREFIX}{operation}"], "resources": [literal]}
    return json.dumps({"accessControl": {service: {f"{component}:{short}:1": policy}}})


class Authorizer:
    """Asks the policies of whoever calls; ``configuration`` gives a component's tree, ``thing`` is the device's name.

    Policies are read again when a configuration is another one.  Each refusal is logged once, with the policy that
    would allow it, and no more than 32 of each component until it is configured anew.
    """

    def __init__(self, configuration: Callable[[str], Tree | None], thing: str = "") -> None:
        self._configuration = configuration
        self._thing = thing
        self._read: dict[str, tuple[Tree, Policies]] = {}
        self._refused: dict[str, set[tuple[str, str, str]]] = {}

    def permit(self, call: Call, service: str, resource: str) -> None:
        """Raise ``UnauthorizedError`` where the caller may not do its operation to a resource."""
        caller = call.caller
        if caller.is_cli and service == _CLI:
            return
        if not self.policies(caller.name).allows(service, call.operation, resource):
            self._note(caller.name, service, call.operation, resource)
            raise UnauthorizedError(
                f"{caller.name} may not do {call.operation} of {service} to {_shown(resource)}: its accessControl does "
                "not allow it"
            )

    def policies(self, component: str) -> Policies:
        """The policies of a component as it is configured now."""
        tree = self._configuration(component)
        if tree is None:
            return Policies()
        known = self._read.get(component)
        if known is not None and known[0] is tree:
            return known[1]
        if known is not None and known[0] == tree:
            self._read[component] = tree, known[1]
            return known[1]
        given = tree.at([_KEY])
        policies = policies_of({} if given is MISSING else {_KEY: given}, self._thing)
        for problem in policies.problems:
            log.warning("component %s: %s", component, problem)
        self._read[component] = tree, policies
        self._refused.pop(component, None)
        return policies

    def named(self, call: Call, service: str, resource: str) -> bool:
        """Whether a policy of the caller allows its operation on a resource that it names without wildcards."""
        return self.policies(call.caller.name).names(service, call.operation, resource)

    def _note(self, component: str, service: str, operation: str, resource: str) -> None:
        logged = self._refused.setdefault(component, set())
        refused = service, operation, _shown(resource)
        if refused in logged or len(logged) >= _LOGGED:
            return
        logged.add(refused)
        how = f"; this in its configuration would allow it: {suggestion(component, service, operation, resource)}"
        log.warning(
            "%s may not do %s to %s%s%s",
            component, operation, _shown(resource), how if len(resource) <= _SHOWN else "",
            "; what else it is refused is not logged" if len(logged) == _LOGGED else "",
        )  # fmt: skip


def _shown(resource: str) -> str:
    return resource if len(resource) <= _SHOWN else resource[: _SHOWN - 1] + "…"
