"""Fleet status messages, as a Greengrass nucleus sends them: hear, step (``components.health``), publish.

Whatever happens, the roster is looked at anew and what differs is told to the core.  The number of a message is in
the ledger before the message goes out: numbers rise over restarts, and a crash in between costs one of them.  Messages
wait in a bounded outbox for the ledger, then with QoS 1 for the link.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Self

from agent.errors import InvalidInputError, VergeError
from agent.greengrass.components.states import State
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.ledger import Ledger, LedgerError, Step
from agent.greengrass.deployments.request import Source
from agent.greengrass.deployments.watcher import COMMITTED, End
from agent.greengrass.fleet import health
from agent.greengrass.fleet.health import CADENCE_S, Event, Happened, Health
from agent.greengrass.fleet.messages import Device, encode
from agent.greengrass.fleet.report import ComponentHealth, Deployment, Report, Trigger
from agent.mqtt.transport import LinkState, Message, Transport

__all__ = ["FleetStatus", "Roster", "health_topic"]

log = logging.getLogger(__name__)

Roster = Callable[[Mapping[str, str]], Mapping[str, ComponentHealth]]
"""How every component is now; it is given the configuration ARNs by group."""

_TRIGGERS: Final = {
    Source.JOB: Trigger.THING_GROUP_DEPLOYMENT,
    Source.SHADOW: Trigger.THING_DEPLOYMENT,
    Source.TOPIC: Trigger.LOCAL_DEPLOYMENT,
    Source.LOCAL: Trigger.LOCAL_DEPLOYMENT,
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


class FleetStatus:
    """Sends fleet status messages while it is entered and ``run``; a ``Watcher`` of deployments.

    ``present`` is looked at whenever something ``changed``; the supervisor tells of its own changes.
    """

    def __init__(
        self, transport: Transport, ledger: Ledger, supervisor: Supervisor, present: Roster, *, device: Device,
        topic: str, cadence_s: float = CADENCE_S,
    ) -> None:  # fmt: skip
        self.dropped = 0
        """Messages that found the outbox full."""
        self._transport = transport
        self._ledger = ledger
        self._supervisor = supervisor
        self._present = present
        self._device = device
        self._topic = topic
        self._cadence_s = cadence_s
        self._health = Health(0, due=0.0)
        self._arns: dict[str, str] = {}
        self._outbox: asyncio.Queue[tuple[Report, int]] = asyncio.Queue(_OUTBOX)
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._entered = False

    async def __aenter__(self) -> Self:
        sequence = await self._ledger.number(_SEQUENCE)
        self._health = Health(sequence, due=await self._due(), cadence_s=self._cadence_s)
        self._arns = await self._former_arns()
        self._entered = True
        self._supervisor.watch(lambda _status: self.changed())
        self._transport.watch(self._link)
        self._link(self._transport.state)
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

    def changed(self) -> None:
        """A component may have changed."""
        if self._entered:
            self._look()
            self._news.set()

    def began(self) -> None:
        """A deployment is under way."""
        self._hear(Event(Happened.DEPLOYING))

    def ended(self, end: End) -> None:
        """A deployment is over."""
        done = end.deployment
        if done is not None and done.revision_arn and end.outcome.status in COMMITTED:
            self._arns[done.group] = done.revision_arn
        self.changed()
        self._hear(Event(Happened.DEPLOYED, trigger=_TRIGGERS[end.source], deployment=_told(end)))

    # -- in --------------------------------------------------------------------------------------------------

    def _link(self, state: LinkState) -> None:
        self._hear(Event(Happened.ONLINE if state.connected else Happened.OFFLINE))

    def _look(self) -> None:
        known, now = self._health.components, self._present(self._arns)
        for name, one in now.items():
            if known.get(name) != one:
                self._hear(Event(Happened.CHANGED, one))
        for name in sorted(known.keys() - now.keys()):
            gone = replace(known[name], state=State.FINISHED, codes=(), reason="")
            self._hear(Event(Happened.REMOVED, gone))

    async def _settle(self) -> None:
        """Say so whenever everything has come to rest."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._supervisor.quiet()
            self._look()
            if not any(each.state in _IN_WORK for each in self._health.components.values()):
                self._hear(Event(Happened.SETTLED))

    def _hear(self, event: Event) -> None:
        if not self._entered:
            return
        loop = asyncio.get_running_loop()
        self._health, reports = health.step(self._health, event, loop.time())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(health.wake(self._health), self._hear, Event(Happened.TICK))
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
            # A fleet wants to hear of a device above all when its disk is failing.
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
        found: dict[str, str] = {}
        for entry in await self._ledger.entries(100):
            if entry.step is not Step.COMMITTED or _ARN_KEY not in entry.document:
                continue
            source = Source(entry.source.partition("/")[0])
            try:
                deployment = parse(entry.document, source=source, received_ms=entry.received_ms)
            except InvalidInputError as error:
                log.debug("the document of deployment %s tells no configuration: %s", entry.id, error)
                continue
            found.setdefault(deployment.group, deployment.revision_arn or "")
        return {group: arn for group, arn in found.items() if arn}


def _told(end: End) -> Deployment:
    outcome = end.outcome
    return Deployment(
        id=end.id,
        status=outcome.job_status.value,
        arn=(end.deployment.revision_arn if end.deployment else None) or "",
        detailed_status=outcome.status.value,
        failure_cause=outcome.cause or None,
        error_stack=outcome.stack,
        error_types=outcome.types,
    )
