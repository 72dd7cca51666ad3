"""Where deployments arrive and where they are reported: topics, AWS IoT Jobs and the deployment shadow.

Whatever it came by, a document is opened, its right to be here is decided, it is read, written to the ledger and
queued; one runs at a time.  How far it is, and how it ended, is retained on a topic of its own and told to whoever
asked for it, until they have heard.  Documents wait in a bounded inbox; what finds it full is rejected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from agent.errors import InvalidInputError, VergeError
from agent.greengrass.deployments import queue as queues
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.endings import interrupted
from agent.greengrass.deployments.errors import DeploymentRejectedError
from agent.greengrass.deployments.inquiry import REQUEST, answer
from agent.greengrass.deployments.keys import PublicKey
from agent.greengrass.deployments.ledger import Entry, Ledger, LedgerError, Step
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome, failed, topic_payload
from agent.greengrass.deployments.queue import (
    Activating,
    Arrived,
    Begin,
    Cancelled,
    Dropped,
    Ended,
    Interrupt,
    Queue,
    Rejected,
)
from agent.greengrass.deployments.request import Deployment, Source
from agent.greengrass.deployments.requesters import Asker, Replies
from agent.greengrass.deployments.transaction import Deployer
from agent.greengrass.deployments.trust import Accept, Link, decide, open_document
from agent.greengrass.deployments.watcher import COMMITTED, End, Watcher
from agent.mqtt.transport import Message, Transport
from agent.results.result import utc
from agent.topics import level

__all__ = ["Arrival", "Desk"]

log = logging.getLogger(__name__)

_INBOX = 64
_decode_outcome = msgspec.json.Decoder(Outcome).decode


@dataclass(frozen=True, slots=True)
class Arrival:
    """A document that came; ``key`` tells its asker again after a restart."""

    source: Source
    payload: bytes
    asker: Asker
    key: str = ""
    job_id: str | None = None
    retained: bool = False


@dataclass(frozen=True, slots=True)
class _Order:
    """A deployment that was taken, by its number in the ledger."""

    seq: int
    asker: Asker
    digests: bool


class Desk:
    """Takes documents and has the deployer run them; ``serve`` is its life."""

    def __init__(
        self, thing: str, deployer: Deployer, ledger: Ledger, *, transport: Transport, base: str, link: Link,
        accept: Accept, keys: Mapping[str, PublicKey],
    ) -> None:  # fmt: skip
        self._thing = thing
        self._deployer = deployer
        self._ledger = ledger
        self._transport = transport
        self._base = base
        self._link = link
        self._accept = accept
        self._keys = keys
        self._inbox: asyncio.Queue[Arrival] = asyncio.Queue(_INBOX)
        self._queue = Queue()
        self._orders: dict[str, _Order] = {}
        self._working: asyncio.Task[None] | None = None
        self._watchers: list[Watcher] = []

    def watch(self, watcher: Watcher) -> None:
        """Have ``watcher`` hear of every deployment from now on."""
        self._watchers.append(watcher)

    def open(self) -> None:
        """Hear documents from now on; they wait for ``serve``."""
        self._transport.subscribe(f"{self._base}/deployments", self._heard, qos=1)
        self._transport.subscribe(f"{self._base}/deployments/{REQUEST}", self._asked, qos=1)

    async def serve(self, tasks: asyncio.TaskGroup) -> None:
        """Account for what a crash interrupted, then take documents until cancelled."""
        self._tasks = tasks
        self._queue = Queue(last_ms=self._deployer.state.timestamps)
        for entry in await self._ledger.unreported():
            try:
                await self._recover(entry)
            except LedgerError as error:
                log.warning("deployment %s stays as it is until the next start: %s", entry.id, error)
        while True:
            arrival = await self._inbox.get()
            try:
                await self._take(arrival)
            except VergeError:
                log.exception("a document could not be taken")

    def arrive(self, arrival: Arrival) -> None:
        """A document came; a full inbox rejects it."""
        try:
            self._inbox.put_nowait(arrival)
        except asyncio.QueueFull:
            error = DeploymentRejectedError(
                f"{_INBOX} documents wait already", code="THROTTLING_ERROR", hint="send it later"
            )
            arrival.asker.ended("", failed(DetailedStatus.REJECTED, error))

    def cancel(self, identity: str) -> None:
        """Nobody wants that deployment any more; too late once it changes something."""
        self._step(Cancelled(identity))

    def cancel_job(self, job_id: str) -> None:
        """The deployment of that job is not wanted any more."""
        running = self._queue.running.deployment if self._queue.running else None
        for deployment in (*self._queue.waiting, *([running] if running else [])):
            if deployment.job_id == job_id:
                self.cancel(deployment.id)

    async def close(self) -> None:
        """Stop what runs; the ledger tells the next start how far it was."""
        self._transport.unsubscribe(f"{self._base}/deployments", self._heard)
        self._transport.unsubscribe(f"{self._base}/deployments/{REQUEST}", self._asked)
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)

    def report(self, deployment: Deployment, step: Step, told: Mapping[str, Any]) -> None:
        """How far a deployment is: the deployer's ``Report``."""
        payload = {"id": deployment.id, "status": "IN_PROGRESS", "step": step.value, **told}
        self._publish(deployment.id, payload)
        for watcher in self._watchers:
            watcher.began()
        order = self._orders.get(deployment.id)
        if order is not None:
            order.asker.progress(payload)

    # -- in --------------------------------------------------------------------------------------------------

    def _heard(self, message: Message) -> None:
        asker = Replies(self._transport, message) if message.response_topic else Asker()
        self.arrive(Arrival(Source.TOPIC, message.payload, asker, retained=message.retain))

    def _asked(self, message: Message) -> None:
        answered = answer(message, self._thing, self._deployer.state, self._deployer.previous)
        if answered is not None:
            try:
                self._transport.publish(answered)
            except VergeError as error:
                log.warning("a question could not be answered on %s: %s", answered.topic, error)

    async def _take(self, arrival: Arrival) -> None:
        if await self._known(arrival):
            return
        now_ms = int(time.time() * 1e3)
        try:
            deployment, digests = self._read(arrival.payload, arrival.source, now_ms, arrival.job_id)
        except InvalidInputError as error:
            await self._refuse(arrival, error)
            return
        if deployment.id in self._orders:
            twice = DeploymentRejectedError(
                f"deployment {deployment.id} is under way already", code="CONFLICTED_REQUEST"
            )
            arrival.asker.ended(deployment.id, failed(DetailedStatus.REJECTED, twice))
            return
        try:
            seq = await self._ledger.receive(deployment.id, _source(arrival), arrival.payload, now_ms)
        except LedgerError as error:
            self._unnoted(deployment.id, arrival, error)
            return
        self._orders[deployment.id] = _Order(seq, arrival.asker, digests)
        self._step(Arrived(deployment))

    async def _known(self, arrival: Arrival) -> bool:
        """Whether it came before: a job handed out again after a restart, or a retained document."""
        for entry in await self._ledger.entries(100):
            same = entry.source == _source(arrival) if arrival.key else False
            if same or (arrival.retained and entry.document == arrival.payload):
                if entry.outcome is not None and same:
                    arrival.asker.ended(entry.id, _decode_outcome(entry.outcome))
                elif entry.id in self._orders:
                    self._orders[entry.id] = _Order(entry.seq, arrival.asker, self._orders[entry.id].digests)
                return True
        return False

    async def _refuse(self, arrival: Arrival, error: InvalidInputError) -> None:
        rejected = isinstance(error, DeploymentRejectedError)
        outcome = failed(DetailedStatus.REJECTED if rejected else DetailedStatus.FAILED_NO_STATE_CHANGE, error)
        identity = arrival.job_id or arrival.key or "refused"
        log.warning("a document is %s: %s", "rejected" if rejected else "wrong", error)
        try:
            seq = await self._ledger.receive(identity, _source(arrival), arrival.payload, int(time.time() * 1e3))
        except LedgerError as broken:
            self._unnoted(identity, arrival, broken)
            return
        await self._ledger.end(seq, msgspec.json.encode(outcome))
        self._tell(End(identity, arrival.source, outcome), seq, arrival.asker)

    async def _recover(self, entry: Entry) -> None:
        kind, _, rest = entry.source.partition("/")
        source = Source(kind)
        outcome = _decode_outcome(entry.outcome) if entry.outcome is not None else interrupted(entry)
        if outcome is not None:
            if entry.outcome is None:
                await self._ledger.end(entry.seq, msgspec.json.encode(outcome))
            self._tell(End(entry.id, source, outcome), entry.seq, Asker())
            return
        log.warning("deployment %s was interrupted before it changed anything; it begins anew", entry.id)
        await self._ledger.again(entry.seq)
        job_id = rest.partition("/")[0] if source is Source.JOB else None
        try:
            deployment, digests = self._read(entry.document, source, entry.received_ms, job_id)
        except InvalidInputError as error:
            outcome = failed(DetailedStatus.FAILED_NO_STATE_CHANGE, error)
            await self._ledger.end(entry.seq, msgspec.json.encode(outcome))
            self._tell(End(entry.id, source, outcome), entry.seq, Asker())
            return
        self._orders[deployment.id] = _Order(entry.seq, Asker(), digests)
        self._step(Arrived(deployment))

    def _read(self, payload: bytes, source: Source, received_ms: int, job_id: str | None) -> tuple[Deployment, bool]:
        """The deployment, and whether its artifacts must tell their digests; raises why it is not taken."""
        opened = open_document(payload, self._keys, thing=self._thing, now=time.time())
        verdict = decide(self._link, str(opened.signed_by) if opened.signed_by else None, self._accept)
        if not verdict.accepted:
            raise DeploymentRejectedError(verdict.reason, code="ACCESS_DENIED")
        return parse(opened.document, source=source, received_ms=received_ms, job_id=job_id), verdict.digests

    # -- the queue -------------------------------------------------------------------------------------------

    def _step(self, event: queues.Event) -> tuple[queues.Effect, ...]:
        self._queue, effects = queues.step(self._queue, event)
        for effect in effects:
            match effect:
                case Begin(deployment):
                    self._working = self._tasks.create_task(self._work(deployment), name="agent.greengrass.deployments")
                case Interrupt():
                    if self._working is not None and not isinstance(event, Activating):
                        self._working.cancel()
                case Rejected(deployment, outcome):
                    self._tasks.create_task(self._end(deployment, outcome), name="agent.greengrass.deployments.end")
                case Dropped(deployment, reason):
                    error = DeploymentRejectedError(
                        f"the deployment was {reason.value} before it began", code="DEPLOYMENT_REJECTED"
                    )
                    outcome = failed(DetailedStatus.REJECTED, error)
                    self._tasks.create_task(self._end(deployment, outcome), name="agent.greengrass.deployments.end")
        return effects

    async def _work(self, deployment: Deployment) -> None:
        order = self._orders[deployment.id]
        try:
            outcome = await self._deployer.deploy(
                deployment, order.seq, lambda: not self._step(Activating(deployment.id)), digests=order.digests
            )
        except asyncio.CancelledError:
            if self._queue.running is None or not self._queue.running.cancelled:
                raise
            outcome = None
        if outcome is None:
            error = DeploymentRejectedError(
                "the deployment was cancelled before it changed anything", code="DEPLOYMENT_REJECTED"
            )
            await self._end(deployment, failed(DetailedStatus.REJECTED, error))
        else:
            await self._end(deployment, outcome)
        self._step(Ended(deployment.id, outcome))

    async def _end(self, deployment: Deployment, outcome: Outcome) -> None:
        if outcome.status not in COMMITTED:
            await self._ledger.end(self._orders[deployment.id].seq, msgspec.json.encode(outcome))
        order = self._orders.pop(deployment.id)  # only now: a job that is handed out again meanwhile is told too
        self._tell(End(deployment.id, deployment.source, outcome, deployment), order.seq, order.asker)

    # -- out -------------------------------------------------------------------------------------------------

    def _unnoted(self, identity: str, arrival: Arrival, error: LedgerError) -> None:
        """What cannot be written down is not begun: whoever asked hears it."""
        outcome = failed(DetailedStatus.FAILED_NO_STATE_CHANGE, error)
        log.warning("deployment %s is not begun: %s", identity, error)
        self._publish(identity, topic_payload(identity, outcome))
        arrival.asker.ended(identity, outcome)

    def _tell(self, end: End, seq: int, asker: Asker) -> None:
        def delivered(error: VergeError | None) -> None:
            if error is None:
                self._tasks.create_task(self._ledger.reported(seq), name="agent.greengrass.deployments.reported")

        self._publish(end.id, topic_payload(end.id, end.outcome), delivered)
        asker.ended(end.id, end.outcome)
        for watcher in self._watchers:
            watcher.ended(end)

    def _publish(
        self, identity: str, payload: Mapping[str, Any], delivered: Callable[[VergeError | None], None] | None = None
    ) -> None:
        topic = f"{self._base}/deployments/{level(identity)}"
        told = msgspec.json.encode({**payload, "at": utc(time.time())})
        message = Message(topic, told, qos=1, retain=True, content_type="application/json")
        try:
            self._transport.publish(message, delivered)
        except VergeError as error:
            log.warning("the state of deployment %s could not be published: %s", identity, error)


def _source(arrival: Arrival) -> str:
    return f"{arrival.source.value}/{arrival.key}" if arrival.key else arrival.source.value
