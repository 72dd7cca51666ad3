"""Where deployments arrive, run and are reported: the owner of the queue, of the requesters and of the device's state.

Whatever it came by, a document is opened, its right to be here is decided, it is read, written to the ledger and
queued; one runs at a time, as a ``Transaction`` whose steps are written before they are taken.  How far it is, and how
it ended, is retained on a topic of its own and reported to whoever asked for it, until that has arrived.  What a power
cut interrupted is found at the next start: before activation it begins anew (twice at most), after that the old set,
which is still the active one, goes on and the deployment has failed.

Documents wait in a bounded inbox; what finds it full is rejected.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from agent.errors import InvalidInputError, VergeError
from agent.greengrass.deployments import queue as queues
from agent.greengrass.deployments.activation import RollbackFailedError
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.errors import DeploymentRejectedError
from agent.greengrass.deployments.ledger import Entry, Ledger, LedgerError, Step
from agent.greengrass.deployments.outcome import (
    COMMITTED,
    DeploymentEnded,
    DeploymentListener,
    DetailedStatus,
    Outcome,
    failed,
    interrupted,
    topic_payload,
)
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
from agent.greengrass.deployments.request import Deployment, Origin
from agent.greengrass.deployments.requesters import QUERY, Arrival, Requester, TopicRequester, answer
from agent.greengrass.deployments.state import DeployedState, DeviceState
from agent.greengrass.deployments.transaction import DeploymentProgress, Transaction, Workspace
from agent.greengrass.deployments.trust import TrustPolicy
from agent.mqtt.transport import Message, Transport
from agent.results.result import utc
from agent.topics import Topics

__all__ = ["DeploymentService"]

log = logging.getLogger(__name__)

_INBOX = 64
_decode_outcome = msgspec.json.Decoder(Outcome).decode


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A deployment that was taken: its number in the ledger, who asked for it, and whether artifacts need digests."""

    seq: int
    requester: Requester
    digests: bool


class DeploymentService:
    """Takes documents and runs them; ``open`` and ``serve`` are its life, ``state`` is the device's."""

    def __init__(
        self, workspace: Workspace, ledger: Ledger, transport: Transport, topics: Topics, trust: TrustPolicy
    ) -> None:
        self.state = DeviceState()
        self._workspace = workspace
        self._ledger = ledger
        self._transport = transport
        self._topics = topics
        self._trust = trust
        self._inbox: asyncio.Queue[Arrival] = asyncio.Queue(_INBOX)
        self._queue = Queue()
        self._accepted: dict[str, _Accepted] = {}
        self._running: asyncio.Task[None] | None = None
        self._listeners: list[DeploymentListener] = []

    def listen(self, listener: DeploymentListener) -> None:
        """Have ``listener`` called for every deployment from now on."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Make the active set live; documents are received from now on, and wait for ``serve``."""
        self._transport.subscribe(self._topics.deployments, self._on_document, qos=1)
        self._transport.subscribe(self._topics.deployment(QUERY), self._on_query, qos=1)
        current, previous = await self._ledger.active()
        state = DeviceState(DeployedState.load(current), DeployedState.load(previous) if previous is not None else None)
        self.state = await self._workspace.restore(state)

    async def serve(self, tasks: asyncio.TaskGroup) -> None:
        """Account for what a crash interrupted, then take documents until cancelled."""
        self._tasks = tasks
        self._queue = Queue(last_ms=self.state.current.timestamps)
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

    async def close(self) -> None:
        """Stop what runs; from the ledger the next start knows how far it was."""
        self._transport.unsubscribe(self._topics.deployments, self._on_document)
        self._transport.unsubscribe(self._topics.deployment(QUERY), self._on_query)
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    def submit(self, arrival: Arrival) -> None:
        """Take a document; a full inbox rejects it."""
        try:
            self._inbox.put_nowait(arrival)
        except asyncio.QueueFull:
            error = DeploymentRejectedError(
                f"{_INBOX} documents wait already", code="THROTTLING_ERROR", hint="send it later"
            )
            arrival.requester.ended("", failed(DetailedStatus.REJECTED, error))

    def cancel(self, identity: str) -> None:
        """Give a deployment up; too late once it changes something."""
        self._step(Cancelled(identity))

    def cancel_job(self, job_id: str) -> None:
        """Give the deployment of that job up."""
        running = self._queue.running.deployment if self._queue.running else None
        for deployment in (*self._queue.waiting, *([running] if running else [])):
            if deployment.job_id == job_id:
                self.cancel(deployment.id)

    # -- in --------------------------------------------------------------------------------------------------

    def _on_document(self, message: Message) -> None:
        requester = TopicRequester(self._transport, message) if message.response_topic else Requester()
        self.submit(Arrival(Origin.TOPIC, message.payload, requester, retained=message.retain))

    def _on_query(self, message: Message) -> None:
        response = answer(message, self._workspace.thing, self.state)
        if response is not None:
            try:
                self._transport.publish(response)
            except VergeError as error:
                log.warning("a query could not be answered on %s: %s", response.topic, error)

    async def _take(self, arrival: Arrival) -> None:
        if await self._known(arrival):
            return
        now_ms = int(time.time() * 1e3)
        try:
            deployment, digests = self._read(arrival.payload, arrival.source, now_ms, arrival.job_id)
        except InvalidInputError as error:
            await self._refuse(arrival, error)
            return
        if deployment.id in self._accepted:
            twice = DeploymentRejectedError(
                f"deployment {deployment.id} is under way already", code="CONFLICTED_REQUEST"
            )
            arrival.requester.ended(deployment.id, failed(DetailedStatus.REJECTED, twice))
            return
        try:
            seq = await self._ledger.receive(deployment.id, arrival.origin, arrival.payload, now_ms)
        except LedgerError as error:
            self._not_written(deployment.id, arrival, error)
            return
        self._accept(deployment, _Accepted(seq, arrival.requester, digests))

    async def _known(self, arrival: Arrival) -> bool:
        """Whether it came before: a job handed out again after a restart, or a retained document."""
        for entry in await self._ledger.entries(100):
            same = entry.source == arrival.origin if arrival.key else False
            if same or (arrival.retained and entry.document == arrival.payload):
                if entry.outcome is not None and same:
                    arrival.requester.ended(entry.id, _decode_outcome(entry.outcome))
                elif entry.id in self._accepted:
                    self._accepted[entry.id] = replace(self._accepted[entry.id], requester=arrival.requester)
                return True
        return False

    async def _refuse(self, arrival: Arrival, error: InvalidInputError) -> None:
        rejected = isinstance(error, DeploymentRejectedError)
        outcome = failed(DetailedStatus.REJECTED if rejected else DetailedStatus.FAILED_NO_STATE_CHANGE, error)
        identity = arrival.job_id or arrival.key or "refused"
        log.warning("a document is %s: %s", "rejected" if rejected else "wrong", error)
        try:
            seq = await self._ledger.receive(identity, arrival.origin, arrival.payload, int(time.time() * 1e3))
        except LedgerError as broken:
            self._not_written(identity, arrival, broken)
            return
        await self._ledger.end(seq, msgspec.json.encode(outcome))
        self._report_end(DeploymentEnded(identity, arrival.source, outcome), seq, arrival.requester)

    async def _recover(self, entry: Entry) -> None:
        outcome = _decode_outcome(entry.outcome) if entry.outcome is not None else interrupted(entry)
        if outcome is not None:
            await self._recover_end(entry, outcome)
            return
        log.warning("deployment %s was interrupted before it changed anything; it begins anew", entry.id)
        await self._ledger.begin_anew(entry.seq)
        try:
            deployment, digests = self._read(entry.document, entry.origin, entry.received_ms, entry.job_id)
        except InvalidInputError as error:
            await self._recover_end(entry, failed(DetailedStatus.FAILED_NO_STATE_CHANGE, error))
            return
        self._accept(deployment, _Accepted(entry.seq, Requester(), digests))

    async def _recover_end(self, entry: Entry, outcome: Outcome) -> None:
        if entry.outcome is None:
            await self._ledger.end(entry.seq, msgspec.json.encode(outcome))
        self._report_end(DeploymentEnded(entry.id, entry.origin, outcome), entry.seq, Requester())

    def _read(self, payload: bytes, source: Origin, received_ms: int, job_id: str | None) -> tuple[Deployment, bool]:
        """The deployment, and whether its artifacts need digests; raises why it is not taken."""
        document, digests = self._trust.admit(payload, thing=self._workspace.thing, now=time.time())
        return parse(document, source=source, received_ms=received_ms, job_id=job_id), digests

    def _accept(self, deployment: Deployment, accepted: _Accepted) -> None:
        self._accepted[deployment.id] = accepted
        self._step(Arrived(deployment))

    # -- the queue -------------------------------------------------------------------------------------------

    def _step(self, event: queues.Event) -> tuple[queues.Effect, ...]:
        self._queue, effects = queues.step(self._queue, event)
        for effect in effects:
            match effect:
                case Begin(deployment):
                    self._running = self._tasks.create_task(self._run(deployment), name="agent.greengrass.deployments")
                case Interrupt():
                    if self._running is not None and not isinstance(event, Activating):
                        self._running.cancel()
                case Rejected(deployment, outcome):
                    self._tasks.create_task(self._end(deployment, outcome), name="agent.greengrass.deployments.end")
                case Dropped(deployment, reason):
                    outcome = _rejected(f"the deployment was {reason.value} before it began")
                    self._tasks.create_task(self._end(deployment, outcome), name="agent.greengrass.deployments.end")
        return effects

    async def _run(self, deployment: Deployment) -> None:
        asked = "back to the set before" if deployment.rollback else ", ".join(deployment.components)
        log.info("deployment %s begins: %s", deployment.id, asked or "nothing stays")
        try:
            outcome = await self._deploy(deployment, self._accepted[deployment.id])
        except asyncio.CancelledError:
            if self._queue.running is None or not self._queue.running.cancelled:
                raise
            outcome = None
        if outcome is not None:
            level = logging.INFO if outcome.status is DetailedStatus.SUCCESSFUL else logging.WARNING
            log.log(level, "deployment %s: %s%s", deployment.id, outcome.status, outcome.cause and f": {outcome.text}")
        await self._end(deployment, outcome or _rejected("the deployment was cancelled before it changed anything"))
        self._step(Ended(deployment.id, outcome))

    async def _deploy(self, deployment: Deployment, accepted: _Accepted) -> Outcome | None:
        """Run a deployment to its end; None when it was cancelled before it changed anything."""
        transaction = Transaction(
            deployment, self.state, self._workspace, lambda progress: self._report(deployment, progress),
            digests=accepted.digests,
        )  # fmt: skip
        try:
            if not await self._advance(deployment, transaction, accepted.seq):
                return None
        except RollbackFailedError as error:
            return failed(DetailedStatus.FAILED_UNABLE_TO_ROLLBACK, error)
        except Exception as error:  # a fault of ours costs this deployment, and not the agent
            if not isinstance(error, VergeError | OSError):
                log.exception("deployment %s failed unexpectedly", deployment.id)
            touched = transaction.touched
            self.state = self.state.failed(deployment, error)
            status = DetailedStatus.FAILED_ROLLBACK_COMPLETE if touched else DetailedStatus.FAILED_NO_STATE_CHANGE
            return failed(status, error)
        self.state = transaction.state
        await transaction.finish()
        return transaction.outcome

    async def _advance(self, deployment: Deployment, transaction: Transaction, seq: int) -> bool:
        """Take the steps, each written before, up to the commit; False when it was cancelled before activation."""
        try:
            async with aclosing(transaction.steps()) as steps:
                async for progress in steps:
                    if progress.step is Step.ACTIVATING and self._step(Activating(deployment.id)):
                        return False
                    await self._ledger.step(seq, progress.step)
                    self._report(deployment, progress)
            await self._ledger.commit(seq, transaction.deployed.dump(), msgspec.json.encode(transaction.outcome))
        except BaseException:
            if transaction.activated:
                await self._roll_back(transaction, seq)
            raise
        return True

    async def _roll_back(self, transaction: Transaction, seq: int) -> None:
        try:
            await self._ledger.step(seq, Step.ROLLING_BACK)
        finally:
            # A disk that cannot even note it must not keep the old set from coming back.
            await transaction.roll_back()

    async def _end(self, deployment: Deployment, outcome: Outcome) -> None:
        if outcome.status not in COMMITTED:
            await self._ledger.end(self._accepted[deployment.id].seq, msgspec.json.encode(outcome))
        # Only now: a job that is handed out again meanwhile is informed too.
        accepted = self._accepted.pop(deployment.id)
        end = DeploymentEnded(deployment.id, deployment.source, outcome, deployment)
        self._report_end(end, accepted.seq, accepted.requester)

    # -- out -------------------------------------------------------------------------------------------------

    def _report(self, deployment: Deployment, progress: DeploymentProgress) -> None:
        """Publish how far a deployment is, and inform its requester."""
        status = {"id": deployment.id, "status": "IN_PROGRESS", "step": progress.step.value}
        self._publish(deployment.id, {**status, **progress.details})
        for listener in self._listeners:
            listener.began()
        if deployment.id in self._accepted:
            self._accepted[deployment.id].requester.progress(progress.step)

    def _report_end(self, end: DeploymentEnded, seq: int, requester: Requester) -> None:
        """Publish how a deployment ended, and inform its requester; the ledger knows once the broker has it."""

        def delivered(error: VergeError | None) -> None:
            if error is None:
                self._tasks.create_task(self._ledger.reported(seq), name="agent.greengrass.deployments.reported")

        self._publish(end.id, topic_payload(end.id, end.outcome), delivered)
        requester.ended(end.id, end.outcome)
        for listener in self._listeners:
            listener.ended(end)

    def _not_written(self, identity: str, arrival: Arrival, error: LedgerError) -> None:
        """What cannot be written down is not begun: whoever asked is informed."""
        outcome = failed(DetailedStatus.FAILED_NO_STATE_CHANGE, error)
        log.warning("deployment %s is not begun: %s", identity, error)
        self._publish(identity, topic_payload(identity, outcome))
        arrival.requester.ended(identity, outcome)

    def _publish(
        self, identity: str, payload: Mapping[str, Any], delivered: Callable[[VergeError | None], None] | None = None
    ) -> None:
        content = msgspec.json.encode({**payload, "at": utc(time.time())})
        topic = self._topics.deployment(identity)
        message = Message(topic, content, qos=1, retain=True, content_type="application/json")
        try:
            self._transport.publish(message, delivered)
        except VergeError as error:
            log.warning("the state of deployment %s could not be published: %s", identity, error)


def _rejected(reason: str) -> Outcome:
    return failed(DetailedStatus.REJECTED, DeploymentRejectedError(reason, code="DEPLOYMENT_REJECTED"))
