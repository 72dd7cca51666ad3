"""Fleet status messages, as a Greengrass nucleus sends them: receive, step (``health``), publish.

Whatever happens, every component's health is read anew and what differs is an event for the core.  The number of a
message is in the ledger before the message goes out: numbers rise over restarts, and a crash in between costs one of
them.  Messages wait in a bounded outbox for the ledger, then with QoS 1 for the link.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, Self

from agent.errors import InvalidInputError, VergeError
from agent.greengrass.components.states import ComponentStatus, State
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.ledger import Ledger, LedgerError, Step
from agent.greengrass.deployments.outcome import COMMITTED, DeploymentEnded
from agent.greengrass.deployments.repository import BUILTINS
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.state import DeployedState
from agent.greengrass.fleet import health
from agent.greengrass.fleet.health import CADENCE_S, Happened, Health, HealthEvent
from agent.greengrass.fleet.messages import DeviceFacts, encode
from agent.greengrass.fleet.report import ComponentHealth, DeploymentStatus, Report, Trigger, health_of
from agent.mqtt.transport import LinkState, Message, Transport

__all__ = ["FleetStatus", "HealthSource", "component_health", "health_topic"]

log = logging.getLogger(__name__)

HealthSource = Callable[[Mapping[str, str]], Mapping[str, ComponentHealth]]
"""Gives the health of every component now; its argument is the configuration ARNs by group."""

_TRIGGERS: Final = {
    Origin.JOB: Trigger.THING_GROUP_DEPLOYMENT,
    Origin.SHADOW: Trigger.THING_DEPLOYMENT,
    Origin.TOPIC: Trigger.LOCAL_DEPLOYMENT,
    Origin.LOCAL: Trigger.LOCAL_DEPLOYMENT,
}
_IN_WORK = frozenset((State.STARTING, State.ERRORED))
_SEQUENCE = "fleet-status-sequence"
_CADENCE = "fleet-status-cadence"
_OUTBOX = 64
_DELAY_S = 5.0
"""The first message of an overdue cadence comes within this: after a power cut a fleet must not speak as one."""
_ARN_KEY = b'"configurationArn"'


def health_topic(thing: str, prefix: str) -> str:
    """Where fleet status messages go."""
    return f"{prefix}/things/{thing}/greengrassv2/health/json"


def component_health(
    deployed: DeployedState, statuses: Mapping[str, ComponentStatus], arns: Mapping[str, str]
) -> dict[str, ComponentHealth]:
    """Every component by name as fleet status messages have it; ``arns`` are the groups' configurations, by group."""
    requirements, every = deployed.groups.requirements, _arns(deployed.groups.roots, arns)
    return {
        name: health_of(
            status,
            root=name in requirements,
            arns=every if name in BUILTINS else _arns(requirements.get(name, ()), arns),
            system=name in BUILTINS,
        )
        for name, status in sorted(statuses.items())
    }


def _arns(groups: Iterable[str], arns: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(arns[group] for group in sorted(groups) if group in arns)


class FleetStatus:
    """Sends fleet status messages while it is entered and ``run``; a ``DeploymentListener``.

    ``current_health`` is called whenever something ``changed``; changes of scripts come from the supervisor.
    """

    def __init__(
        self, transport: Transport, ledger: Ledger, supervisor: Supervisor, current_health: HealthSource, *,
        device: DeviceFacts, topic: str, cadence_s: float = CADENCE_S,
    ) -> None:  # fmt: skip
        self.dropped = 0
        """Messages that found the outbox full."""
        self._transport = transport
        self._ledger = ledger
        self._supervisor = supervisor
        self._current_health = current_health
        self._device = device
        self._topic = topic
        self._cadence_s = cadence_s
        self._health = Health(0, due=0.0)
        self._arns: dict[str, str] = {}
        self._outbox: asyncio.Queue[tuple[Report, int]] = asyncio.Queue(_OUTBOX)
        self._pulse = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._entered = False

    async def __aenter__(self) -> Self:
        sequence = await self._ledger.number(_SEQUENCE)
        self._health = Health(sequence, due=await self._due(), cadence_s=self._cadence_s)
        self._arns = await self._former_arns()
        self._entered = True
        self._supervisor.watch(lambda _status: self.changed())
        self._transport.watch(self._on_link)
        self._on_link(self._transport.state)
        self.changed()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._entered = False
        if self._timer is not None:
            self._timer.cancel()

    async def run(self) -> None:
        """Send what is due until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settle(), name="agent.fleet.settle")
            tasks.create_task(self._send(), name="agent.fleet.send")

    def cadence(self, seconds: float | None) -> None:
        """Have regular messages so far apart after the next, a day at least; None: as at first."""
        self._health = replace(self._health, cadence_s=self._cadence_s if seconds is None else seconds)

    def changed(self) -> None:
        """A component may have changed."""
        if self._entered:
            self._compare()
            self._pulse.set()

    def began(self) -> None:
        """A deployment is under way."""
        self._handle(HealthEvent(Happened.DEPLOYING))

    def ended(self, end: DeploymentEnded) -> None:
        """A deployment is over."""
        done = end.deployment
        if done is not None and done.revision_arn and end.outcome.status in COMMITTED:
            self._arns[done.group] = done.revision_arn
        self.changed()
        self._handle(HealthEvent(Happened.DEPLOYED, trigger=_TRIGGERS[end.source], deployment=_status(end)))

    # -- in --------------------------------------------------------------------------------------------------

    def _on_link(self, state: LinkState) -> None:
        self._handle(HealthEvent(Happened.ONLINE if state.connected else Happened.OFFLINE))

    def _compare(self) -> None:
        known, now = self._health.components, self._current_health(self._arns)
        for name, one in now.items():
            if known.get(name) != one:
                self._handle(HealthEvent(Happened.CHANGED, one))
        for name in sorted(known.keys() - now.keys()):
            gone = replace(known[name], state=State.FINISHED, codes=(), reason="")
            self._handle(HealthEvent(Happened.REMOVED, gone))

    async def _settle(self) -> None:
        """Handle ``SETTLED`` whenever everything has come to rest."""
        while True:
            await self._pulse.wait()
            self._pulse.clear()
            await self._supervisor.quiet()
            self._compare()
            if not any(component.state in _IN_WORK for component in self._health.components.values()):
                self._handle(HealthEvent(Happened.SETTLED))

    def _handle(self, event: HealthEvent) -> None:
        if not self._entered:
            return
        loop = asyncio.get_running_loop()
        self._health, reports = health.step(self._health, event, loop.time())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(health.wake(self._health), self._handle, HealthEvent(Happened.TICK))
        for report in reports:
            self._put(report)

    # -- out -------------------------------------------------------------------------------------------------

    def _put(self, report: Report) -> None:
        try:
            self._outbox.put_nowait((report, int(time.time() * 1e3)))
        except asyncio.QueueFull:
            self.dropped += 1
            log.warning("fleet status message %d is dropped: %d wait already", report.sequence, _OUTBOX)

    async def _send(self) -> None:
        while True:
            report, timestamp_ms = await self._outbox.get()
            try:
                await self._note(report)
                for payload in encode(report, self._device, timestamp_ms):
                    self._transport.publish(Message(self._topic, payload, qos=1, content_type="application/json"))
            except VergeError as error:
                log.warning("fleet status message %d did not go out: %s", report.sequence, error)

    async def _note(self, report: Report) -> None:
        try:
            await self._ledger.number(_SEQUENCE, report.sequence + 1)
            if report.trigger is Trigger.CADENCE:
                await self._ledger.number(_CADENCE, int(time.time()))
        except LedgerError as error:
            # A fleet needs the messages of a device above all when its disk is failing.
            log.warning("fleet status message %d goes out unnoted: %s", report.sequence, error)

    # -- what was before -------------------------------------------------------------------------------------

    async def _due(self) -> float:
        """When the first message of the cadence is due, on the loop's clock; the last one's time is kept."""
        loop, now = asyncio.get_running_loop(), int(time.time())
        last = await self._ledger.number(_CADENCE)
        if not 0 < last <= now:  # none yet, or the clock was set back
            last = await self._ledger.number(_CADENCE, now)
        left = last + self._cadence_s - now
        return loop.time() + (left if left > 0 else random.uniform(0.0, _DELAY_S))

    async def _former_arns(self) -> dict[str, str]:
        """The configuration that each group deployed last, from the documents that the ledger has."""
        arns: dict[str, str] = {}
        for entry in await self._ledger.entries(100):
            if entry.step is not Step.COMMITTED or _ARN_KEY not in entry.document:
                continue
            try:
                deployment = parse(entry.document, source=entry.origin, received_ms=entry.received_ms)
            except InvalidInputError as error:
                log.debug("the document of deployment %s names no configuration: %s", entry.id, error)
                continue
            arns.setdefault(deployment.group, deployment.revision_arn or "")
        return {group: arn for group, arn in arns.items() if arn}


def _status(end: DeploymentEnded) -> DeploymentStatus:
    outcome = end.outcome
    return DeploymentStatus(
        id=end.id,
        status=outcome.job_status.value,
        arn=(end.deployment.revision_arn if end.deployment else None) or "",
        detailed_status=outcome.status.value,
        failure_cause=outcome.text or None,
        error_stack=outcome.stack,
        error_types=outcome.types,
    )
