"""A component's stored configuration: a tree whose leaves know when they were set.

A leaf is a scalar, null or a list (lists are replaced whole); everything else is a container.  Keys compare without
case and keep the spelling in which they came first.  ``update`` is what a deployment does to it: reset, then the
recipe's defaults where something is missing, then the merge, which yields to leaves that are newer than itself (the
component's own updates).  Times are milliseconds.  Trees are values: every operation gives a new one.

``tokens`` and ``find`` read JSON pointers (RFC 6901), a path into plain data as a text.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.errors import InvalidInputError

__all__ = ["DEFAULTS_AT", "MISSING", "ConfigurationCorruptError", "Leaf", "Tree", "find", "tokens", "update"]

DEFAULTS_AT: Final = 1
"""The time of a recipe's defaults: older than everything that anybody set."""
_INDEX = re.compile(r"0|[1-9][0-9]{0,6}")
MISSING: Final = object()
"""What ``find`` gives where nothing is: null is a value."""


class ConfigurationCorruptError(InvalidInputError):
    """A stored configuration cannot be read."""

    default_code = "configuration-corrupt"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar, a list or null, and when it was set."""

    value: Any
    timestamp: int


@dataclass(frozen=True, slots=True)
class Tree:
    """A container: nodes by key, and when it came to be."""

    timestamp: int = DEFAULTS_AT
    nodes: Mapping[str, tuple[str, Node]] = field(default_factory=dict)
    """Folded key → the key as it is spelled, and its node."""

    @classmethod
    def of(cls, plain: Mapping[str, Any], timestamp: int = DEFAULTS_AT) -> Tree:
        """A tree of plain data, all of it set at one time."""
        return cls(timestamp).merge(plain, timestamp)

    def get(self, pointer: str) -> Any:
        """The plain data that a JSON pointer addresses, or ``MISSING``."""
        path = tokens(pointer)
        return MISSING if path is None else self.at(path)

    def at(self, path: Iterable[str]) -> Any:
        """The plain data that the keys lead to, or ``MISSING``; nothing is inside a list."""
        node: Node = self
        for key in path:
            if not isinstance(node, Tree) or _fold(key) not in node.nodes:
                return MISSING
            node = node.nodes[_fold(key)][1]
        return _plain(node)

    def to_plain(self) -> dict[str, Any]:
        """The tree as plain data, copied, in the stored spelling."""
        return {key: _plain(node) for key, node in self.nodes.values()}

    @property
    def newest(self) -> int:
        """When anything in it was set last."""
        ends = (node.newest if isinstance(node, Tree) else node.timestamp for _, node in self.nodes.values())
        return max([self.timestamp, *ends])

    def merge(self, plain: Mapping[str, Any], timestamp: int) -> Tree:
        """Set what ``plain`` holds, except where something newer is stored; maps merge, null is a value."""
        nodes = dict(self.nodes)
        for key, value in plain.items():
            spelled, old = nodes.get(_fold(key), (key, None))
            nodes[_fold(key)] = spelled, _merged(old, value, timestamp)
        return Tree(self.timestamp, nodes)

    def fill(self, defaults: Mapping[str, Any]) -> Tree:
        """Set what is missing; what is stored, of whatever kind, stays."""
        nodes = dict(self.nodes)
        for key, value in defaults.items():
            spelled, old = nodes.get(_fold(key), (key, None))
            if old is None:
                nodes[_fold(key)] = spelled, _merged(None, value, DEFAULTS_AT)
            elif isinstance(old, Tree) and isinstance(value, Mapping):
                nodes[_fold(key)] = spelled, old.fill(value)
        return Tree(self.timestamp, nodes)

    def reset(self, pointers: Iterable[str]) -> Tree:
        """Delete what the JSON pointers address; ``""`` is everything.

        A pointer that addresses nothing, or something inside a list, is ignored (``get`` tells which).
        """
        paths = [tokens(pointer) for pointer in pointers]
        if () in paths:
            return Tree()
        tree = self
        for path in paths:
            tree = _without(tree, path) if path else tree
        return tree

    def dump(self) -> bytes:
        """The tree with its times, as JSON for a store."""
        return json.dumps(_stored(self), ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def load(cls, text: bytes | str) -> Tree:
        """Read what ``dump`` gave.  Raises ``ConfigurationCorruptError``."""
        try:
            node = _restored(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigurationCorruptError(f"a stored configuration cannot be read: {error!r}") from error
        if not isinstance(node, Tree):
            raise ConfigurationCorruptError("a stored configuration is a single value")
        return node


Node = Leaf | Tree


def update(
    running: Tree | None,
    reset: Iterable[str],
    defaults: Mapping[str, Any],
    merge: Mapping[str, Any] | None,
    timestamp: int,
) -> Tree:
    """The configuration after a deployment: the running one, reset, filled with defaults, merged.

    ``running`` is None for a component that is new, ``merge`` where the deployment sets nothing; ``timestamp`` is
    the deployment's, in milliseconds.
    """
    return (running or Tree()).reset(reset).fill(defaults).merge(merge or {}, timestamp)


def _fold(key: str) -> str:
    return key.lower()


def _merged(old: Node | None, value: Any, timestamp: int) -> Node:
    """What stands where ``old`` stood once ``value`` is merged."""
    if isinstance(value, Mapping):
        if isinstance(old, Leaf) and old.timestamp > timestamp:
            return old
        return (old if isinstance(old, Tree) else Tree(timestamp)).merge(value, timestamp)
    if old is not None and (old.newest if isinstance(old, Tree) else old.timestamp) > timestamp:
        return old
    return Leaf(copy.deepcopy(value), timestamp)


def _without(tree: Tree, path: tuple[str, ...]) -> Tree:
    folded = _fold(path[0])
    nodes = dict(tree.nodes)
    spelled, node = nodes.pop(folded, ("", None))
    if isinstance(node, Tree) and len(path) > 1:
        nodes[folded] = spelled, _without(node, path[1:])
    elif node is None or len(path) > 1:
        return tree
    return Tree(tree.timestamp, nodes)


def _plain(node: Node) -> Any:
    return node.to_plain() if isinstance(node, Tree) else copy.deepcopy(node.value)


def _stored(node: Node) -> dict[str, Any]:
    if isinstance(node, Leaf):
        return {"at": node.timestamp, "value": node.value}
    return {"at": node.timestamp, "nodes": {key: _stored(inner) for key, inner in node.nodes.values()}}


def _restored(stored: Any) -> Node:
    at = stored["at"]
    if not isinstance(at, int):
        raise TypeError("a time is no whole number")
    if "nodes" not in stored:
        return Leaf(stored["value"], at)
    return Tree(at, {_fold(key): (key, _restored(inner)) for key, inner in stored["nodes"].items()})


def tokens(pointer: str) -> tuple[str, ...] | None:
    """The keys of a pointer; none for the whole document, None when the text is no pointer."""
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        return None
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/"))


def find(value: Any, pointer: str) -> Any:
    """What the pointer addresses in plain data, or ``MISSING``."""
    path = tokens(pointer)
    if path is None:
        return MISSING
    for token in path:
        if isinstance(value, Mapping) and token in value:
            value = value[token]
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            return MISSING
    return value
