"""Greengrass's own rules of local topics, which are not MQTT's, and the subscriptions that are found by them.

``foo/#`` matches ``foo/a`` and all below, and neither ``foo`` nor ``foo/``; ``+`` is one level; both match levels that
begin with ``$``.  Empty levels at the end of a filter or a topic do not count.
(``SubscriptionTrie.java``.)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["TopicIndex", "is_filter", "levels"]

T = TypeVar("T", bound=Hashable)


def levels(topic: str) -> list[str]:
    """The levels that count."""
    found = topic.split("/")
    while len(found) > 1 and not found[-1]:
        found.pop()
    return found


def is_filter(topic: str) -> bool:
    """Whether there are wildcards in it."""
    return "#" in topic or "+" in topic


@dataclass(slots=True)
class _Node(Generic[T]):
    below: dict[str, _Node[T]] = field(default_factory=dict)
    here: dict[T, int] = field(default_factory=dict)
    """Who subscribed to what ends here → how often."""


class TopicIndex(Generic[T]):
    """Who subscribed to what; each once for a topic, however many of its filters match."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, topic_filter: str, who: T) -> None:
        """Subscribe."""
        node = self._root
        for level in levels(topic_filter):
            node = node.below.setdefault(level, _Node())
        node.here[who] = node.here.get(who, 0) + 1
        self._count += 1

    def remove(self, topic_filter: str, who: T) -> None:
        """Unsubscribe, once."""
        path, node = [], self._root
        for level in levels(topic_filter):
            if level not in node.below:
                return
            path.append((node, level))
            node = node.below[level]
        if who not in node.here:
            return
        self._count -= 1
        node.here[who] -= 1
        if not node.here[who]:
            del node.here[who]
        while path and not node.here and not node.below:
            node, level = path.pop()
            del node.below[level]

    def match(self, topic: str) -> dict[T, None]:
        """Who gets what is published to a topic, in the order in which they are found."""
        return dict.fromkeys(self._found(topic))

    def _found(self, topic: str) -> Iterator[T]:
        nodes = [self._root]
        for level in levels(topic):
            following: list[_Node[T]] = []
            for node in nodes:
                if rest := node.below.get("#"):
                    yield from rest.here
                if literal := node.below.get(level):
                    following.append(literal)
                if one := node.below.get("+"):
                    following.append(one)
            if not following:
                return
            nodes = following
        for node in nodes:
            yield from node.here
