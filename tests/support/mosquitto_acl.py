"""An IoT policy for one thing, as access rules of mosquitto's dynamic security plugin.  Pure.

The plugin and not ``acl_file``: with the latter mosquitto grants every subscription and then delivers nothing, while
the plugin answers SUBSCRIBE and PUBLISH with "not authorized" as IoT Core does.  MQTT's wildcards are coarser than a
policy's: ``*`` at the end of a resource becomes ``#``, as a whole level before it ``+``; anything else has no
counterpart and is refused.  A client is its certificate's common name (``use_identity_as_username true``).

The plugin has no rule for connecting: whether the thing may connect stands beside the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.support.iot_policy import Connection, Policy, PolicyError, Statement, resolved

_TYPES: Final = {
    # action: (kind of resource, type of rule)
    "iot:Publish": ("topic", "publishClientSend"),
    "iot:Receive": ("topic", "publishClientReceive"),
    "iot:Subscribe": ("topicfilter", "subscribePattern"),
}
_ELSEWHERE: Final = frozenset(("iot:Connect", "iot:RetainPublish", "iot:AssumeRoleWithCertificate"))
"""Connecting is in ``Access``; mosquitto has no rule for retained messages, and credentials come by HTTPS."""


@dataclass(frozen=True, slots=True)
class Access:
    """The rules for mosquitto: the plugin's ``config_file``, and whether the thing may connect at all."""

    rules: dict[str, Any]
    connects: bool


def access(policy: Policy, who: Connection, user: str) -> Access:
    """The rules for the client whose user name is ``user``; raises ``PolicyError`` for what has no counterpart."""
    acls = [acl for one in policy.statements for acl in _acls(one, who)]
    default = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True}
    rules = {
        "defaultACLAccess": default,
        "clients": [{"username": user, "roles": [{"rolename": "thing"}]}],
        "roles": [{"rolename": "thing", "acls": acls}],
    }
    return Access(rules, policy.allows("Connect", "client", who.thing, who))


def _acls(one: Statement, who: Connection) -> list[dict[str, Any]]:
    acls = []
    for action in one.actions:
        if action in _ELSEWHERE:
            continue
        if action not in _TYPES:
            raise PolicyError(f"{one.sid}: {action} cannot be carried over to mosquitto", hint="name each action")
        kind, rule = _TYPES[action]
        start = who.arn(kind, "")
        # A denial comes before a permission.
        how = {"allow": one.allows, "priority": -1 if one.allows else 0}
        acls += [
            {"acltype": rule, "topic": _mqtt(resource.removeprefix(start), one.sid), **how}
            for resource in resolved(one.resources, who)
            if resource.startswith(start)
        ]
    return acls


def _mqtt(pattern: str, sid: str) -> str:
    """A policy's pattern as a filter.

    >>> _mqtt("verge/line-3/*", "s"), _mqtt("things/*/jobs", "s")
    ('verge/line-3/#', 'things/+/jobs')
    """
    levels = pattern.split("/")
    translated = ["+" if level == "*" else level for level in levels]
    if levels[-1] == "*":
        translated[-1] = "#"
    if any(sign in level for level in translated for sign in "*?"):
        raise PolicyError(f"{sid}: {pattern} has no counterpart in MQTT", hint="let * stand for whole levels")
    return "/".join(translated)
