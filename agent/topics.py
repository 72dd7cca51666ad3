"""Every topic the agent speaks, built and read in one place.

``verge/T`` is the prefix on a local broker, T the thing's name.  Names that come from outside (cameras,
streams) become one topic level each: what MQTT gives a meaning to is replaced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["RESULTS", "SNAPSHOTS", "UNWANTED", "Topics", "camera_of", "level"]

RESULTS = "verge/{thing}/results/{stream}"
SNAPSHOTS = "verge/{thing}/snapshots/{stream}"

_NO_CHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
UNWANTED = re.compile(f"[\0-\x1f\x7f-\x9f\ufdd0-\ufdef{_NO_CHARACTERS}]")
"""NUL, control characters and what is no character: MQTT lets a receiver hang up on them, and brokers do."""
_SPECIAL = str.maketrans("/+#", "___")


def level(name: str) -> str:
    """A name as one topic level."""
    return UNWANTED.sub("_", name).translate(_SPECIAL) or "_"


def camera_of(topic_filter: str, topic: str) -> str:
    """The camera's name: what the filter's wildcards stand for, or the whole topic where it has none.

    >>> camera_of("cameras/+/frame", "cameras/line-3/frame")
    'line-3'
    >>> camera_of("site/#", "site/hall/7")
    'hall/7'
    >>> camera_of("door/frame", "door/frame")
    'door/frame'
    """
    pattern = topic_filter.split("/")
    if pattern[0] == "$share":
        pattern = pattern[2:]
    levels = topic.split("/")
    found: list[str] = []
    for position, part in enumerate(pattern):
        if part == "#":
            found += levels[position:]
        elif part == "+":
            found.append(levels[position])
    return "/".join(found) or topic


@dataclass(frozen=True, slots=True)
class Topics:
    """The agent's own topics for one thing."""

    thing: str
    prefix: str = "verge/{thing}"

    @property
    def base(self) -> str:
        """What every topic begins with."""
        return self.prefix.format(thing=level(self.thing))

    @property
    def status(self) -> str:
        """Retained: whether the agent is online; also the last will's topic."""
        return f"{self.base}/status"

    def stream(self, name: str) -> str:
        """Retained: a stream's counters and state."""
        return f"{self.base}/streams/{level(name)}"

    def transport(self, name: str) -> str:
        """Retained: a link of the agent's, and its outbox."""
        return f"{self.base}/transports/{level(name)}"

    def component(self, name: str) -> str:
        """Retained: the state of something that runs."""
        return f"{self.base}/components/{level(name)}"
