"""Every topic the agent speaks, built and read in one place.

``verge/T`` is the prefix on a local broker, T the thing's name.  Names that come from outside (cameras,
streams) become one topic level each: what MQTT gives a meaning to is replaced.

Below them MQTT's own rules for names and filters: which are valid, which match, and who is called for a topic.
Matching a filter costs microseconds and topics repeat, so ``TopicTable`` remembers its answers per topic; the
memory is bounded and dropped whenever a filter comes or goes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = [
    "RESPONSE_TOPICS",
    "RESULTS",
    "SNAPSHOTS",
    "UNWANTED",
    "TopicTable",
    "Topics",
    "camera_of",
    "covers",
    "level",
    "matches",
    "overlap",
    "share_stripped",
    "valid_filter",
    "valid_text",
    "valid_topic",
]

T = TypeVar("T")

RESULTS = "verge/{thing}/results/{stream}"
SNAPSHOTS = "verge/{thing}/snapshots/{stream}"
RESPONSE_TOPICS = tuple(f"{above}{word}/#" for word in ("answers", "replies") for above in ("", "+/", "+/+/"))
"""Where those who send a request may want its answer, as long as nobody configures it otherwise."""

_NO_CHARACTERS = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
UNWANTED = re.compile(f"[\0-\x1f\x7f-\x9f\ufdd0-\ufdef{_NO_CHARACTERS}]")
"""NUL, control characters and what is no character: MQTT lets a receiver hang up on them, and brokers do."""
_MAX_BYTES = 65_535
_SHARE = "$share/"
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
    names: list[str] = []
    for position, part in enumerate(pattern):
        if part == "#":
            names += levels[position:]
        elif part == "+":
            names.append(levels[position])
    return "/".join(names) or topic


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

    @property
    def trust(self) -> str:
        """Where signed key lists and timestamps come; ``/status`` below it is retained: what the device trusts."""
        return f"{self.base}/trust"

    @property
    def component_filter(self) -> str:
        """The topics of all components."""
        return f"{self.base}/components/+"

    @property
    def stream_filter(self) -> str:
        """The topics of all streams."""
        return f"{self.base}/streams/+"

    @property
    def transport_filter(self) -> str:
        """The topics of all transports."""
        return f"{self.base}/transports/+"

    @property
    def deployments(self) -> str:
        """Where documents of deployments come."""
        return f"{self.base}/deployments"

    @property
    def answers(self) -> str:
        """What the response topics of commands begin with."""
        return f"{self.base}/answers/"

    def deployment(self, identity: str) -> str:
        """Retained: how far a deployment is, and how it ended."""
        return f"{self.deployments}/{level(identity)}"


def valid_text(text: str) -> bool:
    """Whether every broker takes ``text`` as a topic or a property: no control character, at most 65 535 bytes."""
    try:
        return not UNWANTED.search(text) and len(text.encode()) <= _MAX_BYTES
    except UnicodeEncodeError:  # lone surrogates have no UTF-8
        return False


def valid_topic(topic: str) -> bool:
    """Whether ``topic`` may be published on: not empty, no wildcard, no control character, at most 65 535 bytes."""
    return bool(topic) and valid_text(topic) and "+" not in topic and "#" not in topic


def valid_filter(topic_filter: str) -> bool:
    """Whether ``topic_filter`` may be subscribed to, ``$share/group/…`` included."""
    if not topic_filter or not valid_text(topic_filter):
        return False
    if topic_filter.startswith(_SHARE):
        group, _, rest = topic_filter.removeprefix(_SHARE).partition("/")
        return bool(group) and "+" not in group and "#" not in group and bool(rest) and _wildcards_alone(rest)
    return _wildcards_alone(topic_filter)


def share_stripped(topic_filter: str) -> str:
    """The filter that a shared subscription matches with: ``$share/group/a/+`` → ``a/+``."""
    return topic_filter.split("/", 2)[2] if topic_filter.startswith(_SHARE) else topic_filter


def matches(topic_filter: str, topic: str) -> bool:
    """Whether ``topic`` falls under a valid ``topic_filter``; leading wildcards leave ``$`` topics out."""
    wanted = share_stripped(topic_filter).split("/")
    given = topic.split("/")
    if topic.startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given) or level not in {"+", given[index]}:
            return False
    return len(wanted) == len(given)


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that falls under the valid filter ``narrow`` falls under ``wide`` too.

    >>> covers("site/#", "site/+/frame"), covers("site/+", "site/#"), covers("#", "$SYS/#")
    (True, False, False)
    """
    outer, inner = share_stripped(wide).split("/"), share_stripped(narrow).split("/")
    if inner[0].startswith("$") and outer[0] in {"+", "#"}:
        return False
    for index, level in enumerate(outer):
        if level == "#":
            return True
        if index >= len(inner) or inner[index] == "#" or level not in {"+", inner[index]}:
            return False
    return len(outer) == len(inner)


def overlap(one: str, other: str) -> bool:
    """Whether there is a topic that falls under both valid filters."""
    first, second = share_stripped(one).split("/"), share_stripped(other).split("/")
    if ("$" in (one[:1], other[:1])) and {first[0], second[0]} & {"+", "#"}:
        return False
    for left, right in zip(first, second, strict=False):
        if "#" in (left, right):
            return True
        if left != right and "+" not in (left, right):
            return False
    longer = max(first, second, key=len)
    return len(first) == len(second) or longer[min(len(first), len(second))] == "#"


def _wildcards_alone(topic_filter: str) -> bool:
    levels = topic_filter.split("/")
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return False
    return all(level == "+" or "+" not in level for level in levels)


class TopicTable(Generic[T]):
    """Filters with the values that stand under them; ``match`` gives them in the order they came."""

    def __init__(self, *, max_cached: int = 4096) -> None:
        self._values: dict[str, list[T]] = {}
        self._cache: dict[str, tuple[T, ...]] = {}
        self._max_cached = max_cached

    def __contains__(self, topic_filter: str) -> bool:
        return topic_filter in self._values

    def __len__(self) -> int:
        return len(self._values)

    def add(self, topic_filter: str, value: T) -> None:
        """Put ``value`` under the filter."""
        self._values.setdefault(topic_filter, []).append(value)
        self._cache.clear()

    def discard(self, topic_filter: str, value: T) -> None:
        """Take ``value`` from under the filter; what is not there is ignored."""
        values = self._values.get(topic_filter, [])
        if value in values:
            values.remove(value)
        if not values:
            self._values.pop(topic_filter, None)
        self._cache.clear()

    def under(self, topic_filter: str) -> tuple[T, ...]:
        """The values of exactly this filter."""
        return tuple(self._values.get(topic_filter, ()))

    def match(self, topic: str) -> tuple[T, ...]:
        """The values of every filter that ``topic`` falls under."""
        values = self._cache.get(topic)
        if values is None:
            if len(self._cache) >= self._max_cached:
                self._cache.clear()
            values = tuple(
                value
                for topic_filter, held in self._values.items()
                if topic_filter == topic or matches(topic_filter, topic)
                for value in held
            )
            self._cache[topic] = values
        return values
