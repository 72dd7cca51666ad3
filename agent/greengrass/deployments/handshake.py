"""What passes between deployments and the components that run: the shell of ``consent``.

Components subscribe and answer over IPC; a deployment asks, waits and reports what it waits for.  Where nobody has
subscribed, nothing is waited for.  Greengrass asks every component that subscribed to updates, whether the deployment
changes it or not, and so does this.  A component is asked once, over however many streams it has subscribed, and its
first answer counts.

A component may defer for as long as it likes: the deployment has changed nothing yet, says who keeps it waiting, and
can be cancelled and overtaken.  However little it defers, ``pause_s`` is between two times of asking.

Components start with the agent and take a while to subscribe.  A deployment that an earlier agent was killed over
while it asked is ``expect``ed: it gives them the policy's time to subscribe again, before it takes silence for consent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from agent.errors import InvalidInputError
from agent.greengrass.deployments.consent import Asked, Deferral, Judged
from agent.greengrass.deployments.request import NotifyPolicy, UpdateAction
from agent.greengrass.deployments.waiting import Waiting, WaitingKind
from agent.greengrass.errors import DeploymentError
from agent.text import shown

__all__ = [
    "Handshake",
    "HandshakeError",
    "NothingPendingError",
    "PostUpdate",
    "PreUpdate",
    "ProposedConfiguration",
    "UnaskedError",
    "UpdateEvent",
]

PAUSE_S: Final = 1.0
"""Greengrass looks for answers once a second."""
SETTLE_S: Final = 5.0
"""Components that start together have all subscribed so long after the first."""
_LETTERS: Final = 256
"""Of a component's message, so many are passed on."""

Event = TypeVar("Event")
Step = TypeVar("Step", Asked, Judged)
Send: TypeAlias = Callable[[Event], None]
Close: TypeAlias = Callable[[], None]
OnWaiting: TypeAlias = Callable[[Waiting], None]


class HandshakeError(InvalidInputError):
    """What a component says does not belong to anything that it was asked."""


class UnaskedError(HandshakeError):
    """The component cannot have been asked this: it has not subscribed, or it is about another deployment."""

    default_code = "unasked"


class NothingPendingError(HandshakeError):
    """The component was not asked, has answered already, or answers too late."""

    default_code = "nothing-pending"


@dataclass(frozen=True, slots=True)
class PreUpdate:
    """A deployment is about to change something; ``restarting``: the agent may have to be started again for it."""

    deployment_id: str
    restarting: bool


@dataclass(frozen=True, slots=True)
class PostUpdate:
    """The deployment that a ``PreUpdate`` announced is over, however it ended."""

    deployment_id: str


UpdateEvent: TypeAlias = PreUpdate | PostUpdate


@dataclass(frozen=True, slots=True)
class ProposedConfiguration:
    """The whole configuration that a component is to have after the deployment."""

    deployment_id: str
    configuration: Mapping[str, Any]


class Handshake:
    """Who has subscribed, and what they were asked; one deployment asks at a time.

    A ``send`` takes an event, must not block and must not raise.
    """

    def __init__(self, *, pause_s: float = PAUSE_S, settle_s: float = SETTLE_S) -> None:
        self._pause_s = pause_s
        self._settle_s = settle_s
        self._updates: _Subscribers[UpdateEvent] = _Subscribers(self._update_left)
        self._validators: _Subscribers[ProposedConfiguration] = _Subscribers(self._validator_left)
        self._asked: Asked | None = None
        self._judged: Judged | None = None
        self._deployment = ""
        """Which one asks."""
        self._announced = ""
        """The deployment whose end is to be said."""
        self._expected = ""
        """The deployment for which components were asked before the agent ended."""
        self._changed = asyncio.Event()

    # -- components ----------------------------------------------------------------------------------------------------

    def subscribe_updates(self, component: str, send: Send[UpdateEvent]) -> Close:
        """Send a component what is about to happen and what is over, until the result is called."""
        self._changed.set()
        return self._updates.add(component, send)

    def subscribe_validation(self, component: str, send: Send[ProposedConfiguration]) -> Close:
        """Ask a component about each new configuration of it, until the result is called."""
        self._changed.set()
        return self._validators.add(component, send)

    def defer(self, component: str, deployment_id: str, recheck_ms: float | None, message: str = "") -> None:
        """A component wants to be asked again in ``recheck_ms``, or with 0 agrees to be changed now.

        Raises:
            UnaskedError: it has not subscribed to updates.
            NothingPendingError: no answer to that deployment is waited for.
        """
        if component not in self._updates.components:
            raise UnaskedError(f"{component} has not subscribed to component updates", hint="subscribe first")
        asked = self._asked
        if asked is None or self._deployment != deployment_id or component not in asked.pending:
            raise NothingPendingError(f"no answer of {component} to deployment {deployment_id} is waited for")
        after_s = None if recheck_ms is None else recheck_ms / 1e3
        self._asked = asked.answered(component, after_s, _passed_on(message), asyncio.get_running_loop().time())
        self._changed.set()

    def report(self, component: str, deployment_id: str, message: str = "", *, accepted: bool) -> None:
        """A component has judged its new configuration.

        Raises:
            UnaskedError: it was not asked about that deployment, has answered already, or answers too late.
        """
        judged = self._judged
        if judged is None or self._deployment != deployment_id or component not in judged.pending:
            raise UnaskedError(f"no report of {component} on deployment {deployment_id} is waited for")
        self._judged = judged.reported(component, _passed_on(message), accepted=accepted)
        self._changed.set()

    # -- deployments ---------------------------------------------------------------------------------------------------

    def expect(self, deployment_id: str) -> None:
        """Components were asked for this deployment before the agent ended, and may not have subscribed again yet."""
        self._expected = deployment_id

    def asks(self, deployment_id: str, policy: NotifyPolicy) -> bool:
        """Whether ``ask`` waits for anybody now."""
        somebody = bool(self._updates.components) or self._expected == deployment_id
        return policy.action is UpdateAction.NOTIFY_COMPONENTS and somebody

    def validates(self, deployment_id: str, proposed: Collection[str]) -> bool:
        """Whether ``validate`` waits for anybody now."""
        somebody = not self._validators.components.isdisjoint(proposed) or self._expected == deployment_id
        return bool(proposed) and somebody

    async def ask(
        self, deployment_id: str, policy: NotifyPolicy, report: OnWaiting, *, restarting: bool = False,
        rest: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:  # fmt: skip
        """Wait until every component agrees to be changed now, or has let the policy's time go by.

        ``rest`` passes the seconds until components are asked again; ``report`` takes what is waited for.
        """
        if policy.action is UpdateAction.SKIP_NOTIFY_COMPONENTS:
            return
        self._deployment = self._announced = deployment_id
        loop = asyncio.get_running_loop()
        await self._joined(lambda: bool(self._updates.components), policy.update_timeout_s, report)
        event = PreUpdate(deployment_id, restarting)
        while self._updates.components:
            began = loop.time()
            longest = await self._ask_once(event, policy.update_timeout_s, report)
            if longest is None:
                return
            report(_deferred(longest))
            await rest(max(longest.until, began + self._pause_s) - loop.time())

    async def _ask_once(self, event: PreUpdate, timeout_s: float, report: OnWaiting) -> Deferral | None:
        components = self._updates.components
        self._asked = Asked(components, asyncio.get_running_loop().time() + timeout_s)
        try:
            for component in components:
                self._updates.send(component, event)
            await self._over(lambda: self._asked, lambda pending, until: report(_unanswered(pending, until)))
            return self._asked.longest
        finally:
            self._asked = None

    async def validate(
        self, deployment_id: str, proposed: Mapping[str, Mapping[str, Any]], timeout_s: float, report: OnWaiting
    ) -> None:
        """Have those of the ``proposed`` components that subscribed judge their new configurations.

        Raises:
            DeploymentError: COMPONENT_CONFIGURATION_NOT_VALID, with what they say.
        """
        if not proposed:
            return
        self._deployment = deployment_id
        await self._joined(lambda: not self._validators.components.isdisjoint(proposed), timeout_s, report)
        components = self._validators.components & proposed.keys()
        self._judged = Judged(components, asyncio.get_running_loop().time() + timeout_s)
        try:
            for component in components:
                self._validators.send(component, ProposedConfiguration(deployment_id, proposed[component]))
            await self._over(lambda: self._judged, lambda pending, until: report(_unjudged(pending, until)))
            problem = self._judged.problem
        finally:
            self._judged = None
        if problem:
            raise DeploymentError(
                f"components do not accept their new configuration: {problem}",
                hint="deploy a configuration that they accept",
                code="COMPONENT_CONFIGURATION_NOT_VALID",
            )

    def updated(self, deployment_id: str) -> None:
        """Say that a deployment is over, if components were asked for it."""
        if self._announced != deployment_id:
            return
        self._announced = ""
        for component in self._updates.components:
            self._updates.send(component, PostUpdate(deployment_id))

    # -- what changes meanwhile ----------------------------------------------------------------------------------------

    async def _joined(self, present: Callable[[], bool], timeout_s: float, report: OnWaiting) -> None:
        """Wait for who was asked before the agent ended to subscribe again; who they were is not known."""
        if self._expected != self._deployment:
            return
        ends = asyncio.get_running_loop().time() + timeout_s
        why = "the agent ended while they were asked, and they have not subscribed again"
        report(Waiting(WaitingKind.COMPONENTS, "components", why, until=_unix(ends)))
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends):
                while not present():
                    self._changed.clear()
                    await self._changed.wait()
                await asyncio.sleep(self._settle_s)

    async def _over(self, now: Callable[[], Step | None], report: Callable[[Collection[str], float], None]) -> None:
        """Wait until ``now`` is over; who is waited for is reported whenever that changes."""
        loop = asyncio.get_running_loop()
        reported: frozenset[str] = frozenset()
        while (step := now()) is not None and not step.over(loop.time()):
            if step.pending != reported:
                reported = step.pending
                report(reported, step.ends)
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(step.ends):
                    await self._changed.wait()

    def _update_left(self, component: str) -> None:
        if self._asked is not None:
            self._asked = self._asked.left(component)
            self._changed.set()

    def _validator_left(self, component: str) -> None:
        if self._judged is not None:
            self._judged = self._judged.left(component)
            self._changed.set()


class _Subscribers(Generic[Event]):
    """The streams of each component; ``left`` is called when a component has closed its last one."""

    def __init__(self, left: Callable[[str], None]) -> None:
        self._left = left
        self._streams: dict[str, dict[object, Send[Event]]] = {}

    @property
    def components(self) -> frozenset[str]:
        return frozenset(self._streams)

    def add(self, component: str, send: Send[Event]) -> Close:
        key = object()
        self._streams.setdefault(component, {})[key] = send

        def close() -> None:
            streams = self._streams.get(component, {})
            if streams.pop(key, None) is not None and not streams:
                del self._streams[component]
                self._left(component)

        return close

    def send(self, component: str, event: Event) -> None:
        for send in tuple(self._streams.get(component, {}).values()):
            send(event)


def _passed_on(message: str) -> str:
    return shown(message[:_LETTERS])


def _unix(until: float) -> float:
    return time.time() + until - asyncio.get_running_loop().time()


def _deferred(longest: Deferral) -> Waiting:
    why = f"it deferred the deployment{longest.message and f': {longest.message}'}"
    what = f"component {longest.component}"
    return Waiting(WaitingKind.COMPONENTS, what, why, next_attempt=_unix(longest.until))


def _unanswered(pending: Iterable[str], until: float) -> Waiting:
    return _answers(pending, "asked whether it may be changed now", until)


def _unjudged(pending: Iterable[str], until: float) -> Waiting:
    return _answers(pending, "asked whether its new configuration is good", until)


def _answers(pending: Iterable[str], reason: str, until: float) -> Waiting:
    first, *others = sorted(pending)
    what = f"component {first}" + (f" and {len(others)} more" if others else "")
    return Waiting(WaitingKind.COMPONENTS, what, reason, until=_unix(until))
