"""Which shadow is meant, and its topics: ``$aws/things/T/shadow`` for the classic one, ``…/name/N`` for a named one.

Source: IoT Core's developer guide, "Device Shadow MQTT topics" and "Thing and shadow names".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.greengrass.services.shadows.errors import ShadowRequestError

__all__ = ["OPERATIONS", "ShadowKey", "ShadowTopic", "parse"]

OPERATIONS: Final = ("get", "update", "delete")
_MAX_THING: Final = 128
_MAX_SHADOW: Final = 64
_NAME: Final = re.compile(r"[a-zA-Z0-9:_-]+")
_TOPIC: Final = re.compile(r"\$aws/things/([^/]+)/shadow(?:/name/([^/]+))?/(.+)")


@dataclass(frozen=True, slots=True, order=True)
class ShadowKey:
    """A shadow: its thing, and its name, which is empty for the classic one."""

    thing: str
    shadow: str = ""

    @classmethod
    def of(cls, thing: str | None, shadow: str | None) -> ShadowKey:
        """The key of names that came from elsewhere.  Raises ``ShadowRequestError``.

        >>> ShadowKey.of("camera-7", None).prefix
        '$aws/things/camera-7/shadow'
        """
        if not thing:
            raise ShadowRequestError("ThingName is missing")
        for what, name, longest in (("ThingName", thing, _MAX_THING), ("ShadowName", shadow or "", _MAX_SHADOW)):
            if len(name) > longest:
                raise ShadowRequestError(f"{what} has a maximum length of {longest}")
            if name and not _NAME.fullmatch(name):
                raise ShadowRequestError(f"{what} must match pattern {_NAME.pattern}")
        return cls(thing, shadow or "")

    @property
    def prefix(self) -> str:
        """What its topics begin with."""
        return f"$aws/things/{self.thing}/shadow" + (f"/name/{self.shadow}" if self.shadow else "")


class ShadowTopic(NamedTuple):
    """A shadow's topic; ``tail`` is what follows its prefix (``update``, ``get/accepted`` …)."""

    thing: str
    shadow: str
    tail: str


def parse(topic: str) -> ShadowTopic | None:
    """A topic's parts; None for one that is no shadow's.

    >>> parse("$aws/things/t/shadow/name/n/update/accepted")
    ShadowTopic(thing='t', shadow='n', tail='update/accepted')
    >>> parse("$aws/things/t/jobs/get") is None
    True
    """
    found = _TOPIC.fullmatch(topic)
    return ShadowTopic(found[1], found[2] or "", found[3]) if found else None
