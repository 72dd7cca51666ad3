"""The configurations of components as they are live: read by everybody, set by deployments and by each for itself.

A configuration is there twice while a deployment runs: *committed*, what the ledger has and a rollback goes back to,
and *live*, what is planned, from the moment its scripts are started.  What a component sets meanwhile goes into both,
so that neither the commit nor the rollback loses it; the times of leaves decide against what the deployment sets.

A component's own update is in the ledger before it is live or acknowledged.  Updates are written in the order given,
all that wait in one transaction; each component may have so many waiting.  While a deployment switches or commits,
updates wait.

The rules of an update are the nucleus's (``ConfigStoreIPCEventStreamAgent``), but for these: ``accessControl`` is
refused however its case is, as keys are compared everywhere else; an object may come to stand where a value was, as in
a deployment; and a tree has bounds.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from agent.errors import InvalidInputError, UnreachableError, VergeError
from agent.greengrass.catalog import parts
from agent.greengrass.recipes import variables
from agent.greengrass.recipes.configuration import Leaf, Path, Tree, differences
from agent.greengrass.recipes.variables import Context

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_WAITING",
    "ConfigurationBusyError",
    "ConfigurationConditionError",
    "ConfigurationConflictError",
    "ConfigurationUpdateError",
    "Configurations",
    "Configured",
    "Listener",
    "OwnUpdate",
]

log = logging.getLogger(__name__)

MAX_BYTES: Final = 1_048_576
"""How large an update may make a configuration, as JSON."""
MAX_DEPTH: Final = 32
"""How deep an update may make it, lists included."""
MAX_WAITING: Final = 256
"""How many updates of one component may wait to be written."""
_POLICIES: Final = "accesscontrol"

Listener: TypeAlias = Callable[[str, Path], None]
"""Takes a component and the path of what has changed in its configuration; called in the loop, and returns at once."""
Write: TypeAlias = Callable[[Mapping[str, bytes]], Awaitable[None]]
"""Keeps configurations by component; raises ``LedgerError``."""


class ConfigurationUpdateError(InvalidInputError):
    """An update of a configuration is none that a component may make."""

    default_code = "configuration-update-wrong"


class ConfigurationConflictError(InvalidInputError):
    """An update does not fit what is stored: its path leads through a value."""

    default_code = "configuration-conflict"


class ConfigurationConditionError(InvalidInputError):
    """Something newer than the update is stored; what is not newer was set."""

    default_code = "configuration-newer"


class ConfigurationBusyError(UnreachableError):
    """A component sends updates faster than they can be written."""

    default_code = "configuration-busy"


@dataclass(frozen=True, slots=True)
class Configured:
    """A component's configuration, and what the system's variables in it stand for (None: they stay as written)."""

    tree: Tree
    system: Context | None = None
    since: Tree = field(default_factory=Tree)
    """What was committed when this was planned; empty for a component that is new."""

    seen: Tree = field(init=False, compare=False)
    """The configuration as the component and its scripts see it."""

    def __post_init__(self) -> None:
        seen = self.tree if self.system is None else variables.completed(self.tree, self.system)
        object.__setattr__(self, "seen", seen)


@dataclass(frozen=True, slots=True)
class OwnUpdate:
    """What a component sets of its own configuration at a path; none is the whole.  Times are milliseconds."""

    component: str
    path: Path
    value: Any
    timestamp_ms: int
    now_ms: int

    def check(self) -> None:
        """Raise ``ConfigurationUpdateError`` for what no configuration would take."""
        if not self.path and not isinstance(self.value, Mapping):
            raise ConfigurationUpdateError(
                "a whole configuration is an object", hint="name the key in keyPath, or put it into valueToMerge"
            )
        top = self.path[:1] or tuple(self.value)
        if any(key.lower() == _POLICIES for key in top):
            raise ConfigurationUpdateError(
                "a component cannot change its own accessControl", hint="change it by a deployment"
            )
        if len(self.path) + _depth(self.value) > MAX_DEPTH:
            raise ConfigurationUpdateError(
                f"the configuration of {self.component} would be more than {MAX_DEPTH} levels deep", hint="nest less"
            )
        try:
            size = len(json.dumps([*self.path, self.value], allow_nan=False, ensure_ascii=False).encode())
        except (ValueError, TypeError) as error:
            raise ConfigurationUpdateError(f"the value is no JSON: {error}") from error
        if size > MAX_BYTES:
            raise _too_large(self.component, size)

    def over(self, tree: Tree) -> Tree:
        """The tree with what the update sets; where something newer is stored, that stays."""
        at_ms = self.timestamp_ms if tree.node(self.path) is not None else self.now_ms
        return tree.put(self.path, self.value, at_ms, own=True)

    def onto(self, tree: Tree) -> tuple[Tree, ConfigurationConditionError | None]:
        """The same, and what the component is to know where something newer stayed.

        Raises ``ConfigurationConflictError`` and ``ConfigurationUpdateError`` for what leaves the tree as it is.
        """
        node = tree.node(self.path)
        place = "/".join(tree.spelled(self.path))
        for length in range(1, len(self.path)):
            if isinstance(tree.node(self.path[:length]), Leaf):
                inside = "/".join(tree.spelled(self.path[:length]))
                raise ConfigurationConflictError(
                    f"{inside} is a value: {place} cannot be inside it", hint=f"set {inside} to an object first"
                )
        if isinstance(node, Tree) and not isinstance(self.value, Mapping):
            raise ConfigurationConflictError(
                f"{place} is an object, and a value is to be merged into it",
                hint="merge an object, or name a key in it",
            )
        after = self.over(tree)
        stored = after.node(self.path)
        assert stored is not None  # noqa: S101 it was put there
        if node is None or stored.newest <= self.timestamp_ms:
            return after, None
        newer = (
            f"of {place or self.component} something is newer ({stored.newest}) than the update ({self.timestamp_ms})"
        )
        return after, ConfigurationConditionError(
            f"{newer}: that stays", hint="read it again, and set it with a later time"
        )


@dataclass(slots=True)
class _Waiting:
    """An update and who waits for it."""

    update: OwnUpdate
    done: asyncio.Future[None]


class Configurations:
    """The owner of what is live; ``open`` before anything else, and ``close`` while the ledger is still open.

    Names of components match with case, keys of configurations without.
    """

    def __init__(self) -> None:
        self._committed: Mapping[str, Configured] = {}
        self._live: Mapping[str, Configured] = {}
        self._write: Write | None = None
        self._waiting: deque[_Waiting] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        """Held while what is committed or live changes."""
        self._watched: dict[str, list[tuple[Path, Listener]]] = {}
        self._followers: list[Callable[[], None]] = []

    def open(self, trees: Mapping[str, Tree], write: Write) -> None:
        """Begin with what the ledger has; updates are taken from now on."""
        self.adopt({name: Configured(tree) for name, tree in trees.items()})
        self._write = write

    def adopt(self, configured: Mapping[str, Configured]) -> None:
        """Take configurations for committed and live, at the start of the agent."""
        self._committed = self._live = {**self._committed, **configured}
        self._lead()

    async def close(self) -> None:
        """Write what waits, and take no more."""
        self._write = None
        if self._writing is not None:
            await self._writing

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """The components that have a configuration, the agent's own parts included."""
        return tuple(sorted({*self._live, *parts.NAMES}))

    @property
    def committed(self) -> dict[str, Tree]:
        """What the ledger has of the active set."""
        return {name: configured.tree for name, configured in self._committed.items()}

    def get(self, component: str) -> Tree | None:
        """A component's configuration as it sees it now; None for one that is not deployed."""
        configured = self._live.get(component)
        if configured is None:
            return Tree() if component in parts.NAMES else None
        return configured.seen

    def watch(self, component: str, path: Sequence[str], listener: Listener) -> Callable[[], None]:
        """Have ``listener`` called for each node that changes at or below ``path``; the result ends that.

        The path stays watched through deployments, and where its node goes and comes back.
        """
        watch = tuple(map(str.lower, path)), listener
        self._watched.setdefault(component, []).append(watch)

        def close() -> None:
            watches = self._watched.get(component, [])
            self._watched[component] = [one for one in watches if one is not watch]
            if not self._watched[component]:
                del self._watched[component]

        return close

    @property
    def deployed(self) -> Collection[str]:
        """The components of the live set."""
        return self._live.keys()

    def follow(self, follower: Callable[[], None]) -> None:
        """Have it called whenever anything that is live may have changed."""
        self._followers.append(follower)

    def _lead(self) -> None:
        for follower in self._followers:
            follower()

    # -- a component's own updates -----------------------------------------------------------------------------

    async def update(self, component: str, path: Sequence[str], value: Any, timestamp_ms: int, now_ms: int) -> None:
        """Merge ``value`` into a component's own configuration; when this returns, it is on the disk and live.

        Raises:
            ConfigurationUpdateError: it is no update that a component may make, or the component is not deployed.
            ConfigurationConflictError: its path leads through a value.
            ConfigurationConditionError: something there is newer; what is not newer was set.
            ConfigurationBusyError: too many updates of the component wait.
            LedgerError: it cannot be written, and is not live.
        """
        update = OwnUpdate(component, tuple(path), value, timestamp_ms, now_ms)
        update.check()
        if self._write is None:
            raise ConfigurationBusyError("the agent ends, or has not begun", hint="send the update again later")
        if sum(one.update.component == component for one in self._waiting) >= MAX_WAITING:
            raise ConfigurationBusyError(
                f"{MAX_WAITING} updates of {component} wait to be written", hint="wait for the answers"
            )
        waiting = _Waiting(update, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._writing is None or self._writing.done():
            writing = self._write_waiting(self._write)
            self._writing = asyncio.create_task(writing, name="agent.greengrass.configurations")
        await waiting.done

    async def _write_waiting(self, write: Write) -> None:
        while self._waiting:
            async with self._lock:
                batch = list(self._waiting)
                self._waiting.clear()
                try:
                    outcomes = await self._written([waiting.update for waiting in batch], write)
                except VergeError as error:
                    outcomes = [error] * len(batch)
                except Exception as error:  # a fault of ours costs these updates, and not the next ones
                    log.exception("updates of configurations could not be taken")
                    outcomes = [error] * len(batch)
                _end(batch, outcomes)

    async def _written(self, updates: Sequence[OwnUpdate], write: Write) -> list[Exception | None]:
        """Write all of them in one transaction and make them live; the result is what each component is to know.

        Where that raises, none of them is live.
        """
        draft = _Draft(dict(self._committed), dict(self._live))
        outcomes: list[Exception | None] = [draft.apply(update) for update in updates]
        changed = {name: one.tree.dump() for name, one in draft.committed.items() if one is not self._committed[name]}
        if changed:
            await write(changed)
        self._committed, self._live = draft.committed, draft.live
        for component, before, after in draft.steps:
            self._inform(component, before, after)
        self._lead()
        return outcomes

    # -- deployments -------------------------------------------------------------------------------------------

    async def switch(self, planned: Mapping[str, Configured]) -> bool:
        """Make what a deployment planned live, with what was set since it was planned; the rest stays as it is.

        The result is whether that changes anything which was live.
        """
        async with self._lock:
            rebased = {}
            for name, configured in planned.items():
                now = self._committed[name].tree if name in self._committed else Tree()
                rebased[name] = replace(configured, tree=configured.tree.keeping(configured.since, now))
            changes = any(_differ(self._live.get(name, _NOTHING), after) for name, after in rebased.items())
            self._make_live({**self._live, **rebased})
            return changes

    async def back(self) -> None:
        """Make live again what is committed."""
        async with self._lock:
            self._make_live(self._committed)

    @asynccontextmanager
    async def committing(self, names: Collection[str]) -> AsyncIterator[dict[str, Tree]]:
        """What is live of these components is committed once the context is left without an error.

        Updates wait until then; those of components that are in no set any more are refused after it.
        """
        async with self._lock:
            kept = {name: configured for name, configured in self._live.items() if name in names}
            yield {name: configured.tree for name, configured in kept.items()}
            self._committed = kept
            self._make_live(kept)

    def _make_live(self, live: Mapping[str, Configured]) -> None:
        before, self._live = self._live, live
        for name in self._watched.keys() & {*before, *live}:
            self._inform(name, before.get(name, _NOTHING), live.get(name, _NOTHING))
        self._lead()

    def _inform(self, component: str, before: Configured, after: Configured) -> None:
        """Call the listeners of each node that differs, and of each that went with a container."""
        watches = self._watched.get(component, ())
        for path in list(differences(before.seen, after.seen)) if watches else ():
            folded = tuple(map(str.lower, path))
            for watched, listener in tuple(watches):
                if watched == folded[: len(watched)]:
                    self._call(listener, component, path)
                elif watched[: len(path)] == folded and before.seen.node(watched) is not None:
                    self._call(listener, component, before.seen.spelled(watched))

    def _call(self, listener: Listener, component: str, path: Path) -> None:
        try:
            listener(component, path)
        except Exception:  # a fault of one listener is no reason to hold a deployment up
            log.exception("a listener to the configuration of %s failed", component)


_NOTHING: Final = Configured(Tree())


def _differ(before: Configured, after: Configured) -> bool:
    return any(True for _ in differences(before.seen, after.seen))


@dataclass(slots=True)
class _Draft:
    """What updates make of both trees, before it is written."""

    committed: dict[str, Configured]
    live: dict[str, Configured]
    steps: list[tuple[str, Configured, Configured]] = field(default_factory=list)
    """What changes live, in order."""

    def apply(self, update: OwnUpdate) -> InvalidInputError | None:
        """The result is what the component is to know."""
        name = update.component
        if name not in self.live:
            return ConfigurationUpdateError(f"{name} is not deployed", hint="deploy it")
        before = self.live[name]
        try:
            tree, outcome = update.onto(before.tree)
            _demand_size(name, before.tree, tree)
        except InvalidInputError as error:
            return error
        self.live[name] = replace(before, tree=tree)
        self.steps.append((name, before, self.live[name]))
        if name in self.committed:
            self.committed[name] = replace(self.committed[name], tree=update.over(self.committed[name].tree))
        return outcome


def _demand_size(component: str, before: Tree, after: Tree) -> None:
    size = _size(after)
    if size > MAX_BYTES and size > _size(before):
        raise _too_large(component, size)


def _too_large(component: str, size: int) -> ConfigurationUpdateError:
    return ConfigurationUpdateError(
        f"the configuration of {component} would be {size} bytes; an update may make it {MAX_BYTES}",
        hint="keep data in files of the component's work folder",
    )


def _size(tree: Tree) -> int:
    return len(json.dumps(tree.to_plain(), ensure_ascii=False).encode())


def _depth(value: Any) -> int:
    """How deep a value is nested, lists included; no more than one past the limit is counted."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        containers = [list(one.values()) if isinstance(one, Mapping) else one for one in level if _contains(one)]
        level = [inner for container in containers for inner in container]
        depth += bool(containers)
    return depth


def _contains(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def _end(batch: Sequence[_Waiting], outcomes: Sequence[Exception | None]) -> None:
    """Answer those who still wait."""
    for waiting, error in zip(batch, outcomes, strict=True):
        if waiting.done.done():
            continue
        if error is None:
            waiting.done.set_result(None)
        else:
            waiting.done.set_exception(error)
