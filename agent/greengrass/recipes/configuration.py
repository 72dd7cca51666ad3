"""A component's stored configuration: a tree whose leaves know when they were set.

A leaf is a scalar, null or a list (lists are replaced whole); everything else is a container.  Keys compare without
case and keep the spelling in which they came first.  ``update`` is what a deployment does to it: reset, then the
recipe's defaults where something is missing or has become another kind, then the merge, which yields to leaves that are
newer than itself (the component's own updates).  Times are milliseconds.  Trees are values: every operation gives a new
one.

What a component sets itself is marked as its own, since only there clocks decide: documents have an order without them.
``keeping`` carries over what was set while a deployment was planned; ``differences`` are what a subscriber is sent.

``tokens`` and ``find`` read JSON pointers (RFC 6901), a path into plain data as a text.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from agent.errors import InvalidInputError

__all__ = [
    "DEFAULTS_AT",
    "MISSING",
    "ConfigurationCorruptError",
    "Leaf",
    "Node",
    "Path",
    "Tree",
    "differences",
    "find",
    "tokens",
    "update",
]

Path: TypeAlias = tuple[str, ...]
"""The keys that lead to a node; none leads to the whole."""

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
    own: bool = False
    """Whether the component set it itself."""

    @property
    def newest(self) -> int:
        """When it was set."""
        return self.timestamp


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
        node = self.node(path)
        return MISSING if node is None else _plain(node)

    def node(self, path: Iterable[str]) -> Node | None:
        """The node that the keys lead to; None where there is none."""
        node: Node = self
        for key in path:
            if not isinstance(node, Tree) or _fold(key) not in node.nodes:
                return None
            node = node.nodes[_fold(key)][1]
        return node

    def spelled(self, path: Sequence[str]) -> Path:
        """The same path in the stored spelling, as far as it leads anywhere."""
        spelled, node = [], self.nodes
        for key in path:
            known, inner = node.get(_fold(key), (key, None))
            spelled.append(known)
            node = inner.nodes if isinstance(inner, Tree) else {}
        return tuple(spelled)

    def to_plain(self) -> dict[str, Any]:
        """The tree as plain data, copied, in the stored spelling."""
        return {key: _plain(node) for key, node in self.nodes.values()}

    @property
    def newest(self) -> int:
        """When anything in it was set last; an empty one, when it came to be."""
        return max((node.newest for _, node in self.nodes.values()), default=self.timestamp)

    @property
    def newest_deployed(self) -> int:
        """When anything in it was set last that is not the component's own; 0 where nothing is."""
        if not self.nodes:
            return self.timestamp
        nodes = (node for _, node in self.nodes.values())
        return max(
            node.newest_deployed if isinstance(node, Tree) else 0 if node.own else node.timestamp for node in nodes
        )

    def merge(self, plain: Mapping[str, Any], timestamp: int, *, own: bool = False) -> Tree:
        """Set what ``plain`` holds, except where something newer is stored; maps merge, null is a value."""
        nodes = dict(self.nodes)
        for key, value in plain.items():
            spelled, old = nodes.get(_fold(key), (key, None))
            nodes[_fold(key)] = spelled, _merged(old, value, timestamp, own=own)
        return Tree(self.timestamp, nodes)

    def put(self, path: Sequence[str], value: Any, timestamp: int, *, own: bool = False) -> Tree:
        """Merge ``value`` at the end of a path, with the containers on the way to it."""
        for key in reversed(path):
            value = {key: value}
        return self.merge(value, timestamp, own=own)

    def keeping(self, since: Tree, now: Tree) -> Tree:
        """With what was set in ``now`` after it was ``since``, except where something newer is stored here."""
        tree = self
        for path, leaf in _leaves(now):
            if not _is_same(since.node(path), leaf):
                value = {} if isinstance(leaf, Tree) else leaf.value
                tree = tree.put(path, value, leaf.timestamp, own=isinstance(leaf, Leaf) and leaf.own)
        return tree

    def mapped(self, change: Callable[[Any], Any]) -> Tree:
        """The same with every value changed, and every time kept."""
        nodes = {
            folded: (key, node.mapped(change) if isinstance(node, Tree) else replace(node, value=change(node.value)))
            for folded, (key, node) in self.nodes.items()
        }
        return Tree(self.timestamp, nodes)

    def fill(self, defaults: Mapping[str, Any], former: Mapping[str, Any] | None = None) -> Tree:
        """Set what is missing, and what has become another kind: a container where a leaf was, or a leaf for one.

        ``former`` are the defaults before these.  What somebody set over a default of another kind stays as long as
        that default does not change its kind.
        """
        nodes = dict(self.nodes)
        before = {_fold(key): value for key, value in (former or {}).items()}
        for key, value in defaults.items():
            spelled, old = nodes.get(_fold(key), (key, None))
            was = before.get(_fold(key), MISSING)
            contains = _contains(value)
            if old is None or (isinstance(old, Tree) != contains and (was is MISSING or _contains(was) != contains)):
                nodes[_fold(key)] = spelled, _merged(None, value, DEFAULTS_AT)
            elif isinstance(old, Tree) and contains:
                nodes[_fold(key)] = spelled, old.fill(value, was if _contains(was) else None)
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
    *,
    former: Mapping[str, Any] | None = None,
) -> Tree:
    """The configuration after a deployment: the running one, reset, filled with defaults, merged.

    ``running`` is None for a component that is new, ``merge`` where the deployment sets nothing; ``timestamp`` is
    the deployment's, in milliseconds.  ``former`` are the defaults of the version that runs.
    """
    return (running or Tree()).reset(reset).fill(defaults, former).merge(merge or {}, timestamp)


def _fold(key: str) -> str:
    return key.lower()


def _contains(value: Any) -> bool:
    return isinstance(value, Mapping)


def differences(before: Tree, after: Tree) -> Iterator[Path]:
    """The paths of what is another value, new or gone, in the stored spelling; times do not count, true is not 1.

    What is gone as a whole is one path, its container's; a container that is new counts where it is empty.
    """
    for folded, (key, node) in after.nodes.items():
        _, old = before.nodes.get(folded, (key, None))
        if isinstance(node, Tree) and (node.nodes or isinstance(old, Tree)):
            inner = differences(old if isinstance(old, Tree) else Tree(), node)
            yield from ((key, *path) for path in inner)
        elif isinstance(node, Tree) or not isinstance(old, Leaf) or _text(old.value) != _text(node.value):
            yield (key,)
    yield from ((key,) for folded, (key, _) in before.nodes.items() if folded not in after.nodes)


def _is_same(one: Node | None, other: Node) -> bool:
    return one is other or (one is not None and _text(_stored(one)) == _text(_stored(other)))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _leaves(tree: Tree, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """The leaves and the empty containers."""
    for key, node in tree.nodes.values():
        if isinstance(node, Tree) and node.nodes:
            yield from _leaves(node, (*path, key))
        else:
            yield (*path, key), node


def _merged(old: Node | None, value: Any, timestamp: int, *, own: bool = False) -> Node:
    """What stands where ``old`` stood once ``value`` is merged."""
    if isinstance(value, Mapping):
        if isinstance(old, Leaf) and old.timestamp > timestamp:
            return old
        return (old if isinstance(old, Tree) else Tree(timestamp)).merge(value, timestamp, own=own)
    if old is not None and old.newest > timestamp:
        return old
    return Leaf(copy.deepcopy(value), timestamp, own)


def _without(tree: Tree, path: Path) -> Tree:
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
        return {"at": node.timestamp, "value": node.value, **({"own": True} if node.own else {})}
    return {"at": node.timestamp, "nodes": {key: _stored(inner) for key, inner in node.nodes.values()}}


def _restored(stored: Any) -> Node:
    at = stored["at"]
    if not isinstance(at, int):
        raise TypeError("a time is no whole number")
    if "nodes" not in stored:
        return Leaf(stored["value"], at, stored.get("own") is True)
    return Tree(at, {_fold(key): (key, _restored(inner)) for key, inner in stored["nodes"].items()})


def tokens(pointer: str) -> Path | None:
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
