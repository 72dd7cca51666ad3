"""Where deployments arrive, run and are reported: the owner of the queue, of the requesters and of the device's state.

Whatever it came by, a document is opened, its right to be here is decided, it is read, written to the ledger and
queued; one runs at a time, as a ``Transaction`` whose steps are written before they are taken.  How far it is, and how
it ended, is retained on a topic of its own and reported to whoever asked for it, until that has arrived.  What a power
cut interrupted is found at the next start: before activation it begins anew (twice at most), after that the old set,
which is still the active one, goes on and the deployment has failed.

Documents wait in a bounded inbox; what finds it full is rejected.  Of one that is not taken little stays
(``refusals``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from agent.errors import InvalidInputError, VergeError
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments import queue as queues
from agent.greengrass.deployments.activation import RollbackFailedError
from agent.greengrass.deployments.bootstrap import RestartScope
from agent.greengrass.deployments.commands import Command
from agent.greengrass.deployments.control import CommandTaker, ComponentControl
from agent.greengrass.deployments.deployed import DeployedModels
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.ledger import Entry, Ledger, LedgerError, RefusedDocument, Step
from agent.greengrass.deployments.ordering import DocumentOrder, claims_of
from agent.greengrass.deployments.outcome import (
    COMMITTED,
    DeploymentEnded,
    DeploymentListener,
    DetailedStatus,
    Outcome,
    failed,
    given_up,
    interrupted,
    topic_payload,
)
from agent.greengrass.deployments.publishing import DeploymentTopics
from agent.greengrass.deployments.queue import (
    Activating,
    Arrived,
    Begin,
    Cancelled,
    Dropped,
    DropReason,
    Ended,
    Interrupt,
    Queue,
    Rejected,
    Waits,
)
from agent.greengrass.deployments.refusals import BoundedLog, Inbox, of_refused, too_large, unexpected
from agent.greengrass.deployments.request import Deployment, Origin
from agent.greengrass.deployments.requesters import (
    QUERY,
    Arrival,
    Requester,
    TopicRequester,
    answer,
)
from agent.greengrass.deployments.state import DeviceState, loaded
from agent.greengrass.deployments.transaction import DeploymentProgress, Transaction, Workspace
from agent.greengrass.deployments.waiting import behind
from agent.greengrass.errors import DeploymentRejectedError
from agent.greengrass.trust.keylist import Scope
from agent.greengrass.trust.order import EVERY_GROUP, Claims, OrderVerdict
from agent.greengrass.trust.policy import Admission, DocumentTrust
from agent.greengrass.trust.record import OrderRecord, OrderRecordError
from agent.mqtt.replies import Answering, AnswerTopics
from agent.mqtt.strangers import is_canary
from agent.mqtt.transport import Message, Transport
from agent.text import trimmed
from agent.topics import Topics, level

__all__ = ["DeploymentService"]

log = logging.getLogger(__name__)

_CHANGING = frozenset((Step.BOOTSTRAPPING, Step.ACTIVATING))
"""From these steps on a document has had its effect."""
_PENDING_S = 15.0
"""How long a document waits until it is known whether the broker keeps strangers out."""
_decode_outcome = msgspec.json.Decoder(Outcome).decode


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A deployment that was taken: its ledger number, who asked for it, what its signatures allow, what it says."""

    seq: int
    requester: Requester
    admission: Admission
    claims: Claims


class DeploymentService:
    """Takes documents and runs them; ``open`` and ``serve`` are its life, ``state``, ``configurations`` the device's.

    ``models()`` are the models of the components that are deployed now, whether a stream uses them or not.

    ``leave`` is called when a Bootstrap step wants the agent or the device started again; nothing begins after that.
    """

    def __init__(
        self,
        workspace: Workspace,
        ledger: Ledger,
        transport: Transport,
        topics: Topics,
        trust: DocumentTrust,
        leave: Callable[[RestartScope], None] = lambda _: None,
        answers: AnswerTopics | None = None,
    ) -> None:
        self.configurations = workspace.activator.configurations
        self.handshake = workspace.handshake
        self.models = DeployedModels(workspace, lambda: self.state)
        self._state = DeviceState()
        self._workspace = workspace
        self._ledger = ledger
        self._transport = transport
        self._published = DeploymentTopics(transport, topics)
        self._topics = topics
        self._trust = trust
        self._order = DocumentOrder(OrderRecord(workspace.layout.order), workspace.thing)
        control = ComponentControl(workspace.activator)
        self._commands = CommandTaker(workspace.thing, trust, self._order, ledger, control, self)
        self._answering = Answering(answers or AnswerTopics())
        self._decided = asyncio.Event()
        self._decided.set()
        self._inbox = Inbox()
        self._refusals = BoundedLog()
        self._queue = Queue()
        self._accepted: dict[str, _Accepted] = {}
        self._behind: dict[str, tuple[str, ...]] = {}
        """What waits → those before it, as it was published last."""
        self._running: asyncio.Task[None] | None = None
        self._leave = leave
        self._restart: RestartScope | None = None
        """What the deployment that runs wants started again."""
        self._ending = False
        """Whether the running one is over and being reported: there is nothing left to interrupt."""
        self._listeners: list[DeploymentListener] = []

    @property
    def order_damage(self) -> str:
        """What was lost of the record of the order, for people; empty where nothing was."""
        return self._order.damage

    @property
    def supervisor(self) -> Supervisor:
        """What runs the scripts of what is live."""
        return self._workspace.activator.supervisor

    @property
    def stopping_s(self) -> float:
        """How long the scripts of what is live may take to shut down."""
        return self.supervisor.stopping_s

    @property
    def state(self) -> DeviceState:
        """The device's, with what components have set of their configurations."""
        return self._state.configured(self.configurations.committed)

    @property
    def queue(self) -> Queue:
        """What runs and what waits."""
        return self._queue

    def listen(self, listener: DeploymentListener) -> None:
        """Have ``listener`` called for every deployment from now on."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Make the active set live; documents are received from now on, and wait for ``serve``."""
        self._transport.subscribe(self._topics.deployments, self._on_document, qos=1, manual_ack=True)
        self._transport.subscribe(self._topics.deployment(QUERY), self._on_query, qos=1)
        state = loaded(*await self._ledger.active(), await self._ledger.configurations())
        await self._order.open(state.current.timestamps, await self._ledger.entries(100))
        self.configurations.open(state.current.configs, self._ledger.configure)
        self._state = await self._workspace.restore(state)

    async def serve(self, tasks: asyncio.TaskGroup) -> None:
        """Account for what a crash interrupted, then take documents until cancelled."""
        self._tasks = tasks
        for entry in await self._ledger.unreported():
            try:
                await self._recover(entry)
            except (LedgerError, ValueError) as error:  # what stands there may be damaged
                log.warning("deployment %s stays as it is until the next start: %s", entry.id, error)
        while True:
            arrival, large = await self._inbox.get()
            try:
                await (self._take(arrival) if large is None else self._refuse(arrival, too_large(large.size), large))
            except Exception as error:  # a fault over one document costs that document, and not the agent
                log.exception("a document could not be taken")
                await self._refuse(arrival, unexpected(error))
            arrival.taken()

    async def close(self) -> None:
        """Stop what runs; from the ledger the next start knows how far it was."""
        self._transport.unsubscribe(self._topics.deployments, self._on_document)
        self._transport.unsubscribe(self._topics.deployment(QUERY), self._on_query)
        self._refusals.close()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self.configurations.close()

    def hold(self, *, pending: bool) -> None:
        """Have documents wait for a moment while it is pending what the connection that they come by is worth."""
        if pending:
            self._decided.clear()
        else:
            self._decided.set()

    def submit(self, arrival: Arrival) -> None:
        """Take a document; a full inbox rejects it."""
        try:
            self._inbox.put(arrival)
        except DeploymentRejectedError as error:
            identity, outcome = of_refused(arrival).id, failed(DetailedStatus.REJECTED, error)
            self._refusals.warning(f"deployment {identity} ({arrival.source}) is not taken: {error}")
            self._published.publish(identity, topic_payload(identity, outcome), retain=False)
            arrival.requester.ended(identity, outcome)
            arrival.taken()

    def cancel(self, identity: str) -> None:
        """Give a deployment up; too late once it changes something that is live."""
        self._step(Cancelled(identity))

    def cancel_job(self, job_id: str) -> None:
        """Give the deployment of that job up."""
        for deployment in queues.known(self._queue):
            if deployment.job_id == job_id:
                self.cancel(deployment.id)

    def command(self, asked: Command, requester: Requester) -> None:
        """Have components restarted or stopped by the owner's command line; ``requester`` gets the answer.

        Raises ``DeploymentRejectedError`` where that cannot be.
        """
        self._commands.begin(asked, requester, self._tasks.create_task)

    async def entries(self, limit: int) -> list[Entry]:
        """The latest deployments as the ledger has them, the newest first."""
        return await self._ledger.entries(limit)

    # -- in --------------------------------------------------------------------------------------------------

    def _on_document(self, message: Message) -> None:
        if is_canary(message.payload):
            self._transport.acknowledge(message)
            return
        message = self._answering.checked(message)
        requester = TopicRequester(self._transport, message) if message.response_topic else Requester()
        arrival = Arrival(
            Origin.TOPIC, trimmed(message.payload), requester, retained=message.retain, redelivered=message.redelivered,
            taken=partial(self._transport.acknowledge, message),
        )  # fmt: skip
        self.submit(arrival)

    def _on_query(self, message: Message) -> None:
        response = answer(self._answering.checked(message), self._workspace.thing, self.state)
        if response is not None:
            try:
                self._transport.publish(response)
            except VergeError as error:
                log.warning("a query could not be answered on %s: %s", response.topic, error)

    async def _take(self, arrival: Arrival) -> None:
        if await self._known(arrival):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_PENDING_S):
                await self._decided.wait()
        try:
            if await self._commands.take(arrival, self._tasks.create_task):
                return
        except InvalidInputError as error:
            await self._refuse(arrival, error)
            return
        await self._queue_up(arrival)

    async def _queue_up(self, arrival: Arrival) -> None:
        now_ms = int(time.time() * 1e3)
        try:
            deployment, admission, claims = self._read(arrival.payload, arrival.source, now_ms, arrival.job_id)
        except InvalidInputError as error:
            await self._refuse(arrival, error)
            return
        decision = await self._order.decide(claims, admission, retained=arrival.retained)
        if arrival.retained and decision.verdict is OrderVerdict.REPEATED:
            log.debug("the retained document of deployment %s was taken before", deployment.id)
            return
        if not decision.accepted:
            await self._refuse(arrival, decision.error, over=decision.verdict is not OrderVerdict.REPEATED)
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
        await self._accept(deployment, _Accepted(seq, arrival.requester, admission, claims))

    async def _known(self, arrival: Arrival) -> bool:
        """Whether it is a job or a shadow that is handed out again, or a document that the broker sends twice."""
        for entry in await self._ledger.entries(100):
            same = bool(arrival.key) and entry.source == arrival.origin
            if same or (arrival.redelivered and entry.document == arrival.payload):
                if entry.outcome is not None and same:
                    arrival.requester.ended(entry.id, _decode_outcome(entry.outcome))
                elif entry.id in self._accepted:
                    self._accepted[entry.id] = replace(self._accepted[entry.id], requester=arrival.requester)
                return True
        return False

    async def _refuse(
        self, arrival: Arrival, error: InvalidInputError, refused: RefusedDocument | None = None, *, over: bool = False
    ) -> None:
        """Note and report a document that is not taken; ``over`` what is retained of one with its id that was."""
        rejected = isinstance(error, DeploymentRejectedError)
        outcome = failed(DetailedStatus.REJECTED if rejected else DetailedStatus.FAILED_NO_STATE_CHANGE, error)
        refused = refused or of_refused(arrival)
        noted, gone, taken = False, list[str](), level(refused.id) in map(level, self._accepted)
        try:
            taken = taken or (not over and await self._ledger.took(refused.id))
            noted, gone = await self._ledger.refuse(refused, int(time.time() * 1e3), msgspec.json.encode(outcome))
        except LedgerError as broken:
            self._refusals.warning(str(broken))
        if noted and arrival.retained:
            log.debug("the retained document of deployment %s was refused before", refused.id)
            return
        self._refusals.warning(f"deployment {refused.id} ({arrival.source}) is not taken: {error}")
        self._published.publish(refused.id, topic_payload(refused.id, outcome), retain=not taken)
        for identity in gone:
            self._published.forget(identity)
        end = DeploymentEnded(refused.id, arrival.source, outcome)
        arrival.requester.ended(end.id, outcome)
        for listener in self._listeners:
            listener.ended(end)

    async def _recover(self, entry: Entry) -> None:
        outcome = _decode_outcome(entry.outcome) if entry.outcome is not None else interrupted(entry)
        if outcome is not None:
            await self._recover_end(entry, outcome)
            return
        if entry.step is Step.RESTARTING:
            log.info("deployment %s goes on after the restart that it asked for", entry.id)
        else:
            log.warning("deployment %s was interrupted before it changed anything; it begins anew", entry.id)
        if entry.step is Step.ASKING:
            self.handshake.expect(entry.id)
        await self._ledger.begin_anew(entry.seq)
        try:
            deployment, admission, claims = self._read(
                entry.document, entry.origin, entry.received_ms, entry.job_id, again=True
            )
            decision = self._order.decide_again(claims, admission)
            if not decision.accepted:
                raise decision.error
        except InvalidInputError as error:
            await self._recover_end(entry, failed(DetailedStatus.FAILED_NO_STATE_CHANGE, error))
            return
        await self._accept(deployment, _Accepted(entry.seq, Requester(), admission, claims))

    async def _recover_end(self, entry: Entry, outcome: Outcome) -> None:
        if entry.outcome is None:
            await self._ledger.end(entry.seq, msgspec.json.encode(outcome))
        self._report_end(DeploymentEnded(entry.id, entry.origin, outcome), entry.seq, Requester())

    def _read(
        self, payload: bytes, source: Origin, received_ms: int, job_id: str | None, *, again: bool = False
    ) -> tuple[Deployment, Admission, Claims]:
        """The deployment, what its signatures allow and what its document says of itself; or raises why not."""
        admission = self._trust.admit(
            payload, thing=self._workspace.thing, now=time.time(), again=again, local=source is Origin.LOCAL
        )
        deployment = parse(admission.document, source=source, received_ms=received_ms, job_id=job_id)
        self.authorize(deployment, admission)
        return deployment, admission, claims_of(deployment, admission.document)

    def authorize(self, deployment: Deployment, admission: Admission) -> None:
        """Raise why the signers may not do this to the device as it is now."""
        group = EVERY_GROUP if deployment.rollback else deployment.group
        scope = Scope(self._workspace.thing, group, self.state.touched(deployment))
        self._trust.authorize(admission, scope)

    async def _accept(self, deployment: Deployment, accepted: _Accepted) -> None:
        """Queue a deployment once the record knows of it: nothing older is accepted from then on."""
        self._accepted[deployment.id] = accepted
        try:
            await self._order.accept(accepted.claims, accepted.admission)
        except OrderRecordError as error:
            await self._end(deployment, failed(DetailedStatus.FAILED_NO_STATE_CHANGE, error))
            return
        self._step(Arrived(deployment))

    # -- the queue -------------------------------------------------------------------------------------------

    def _step(self, event: queues.Event) -> tuple[queues.Effect, ...]:
        self._queue, effects = queues.step(self._queue, event)
        for effect in effects:
            match effect:
                case Begin(deployment):
                    self._running = self._tasks.create_task(self._run(deployment), name="agent.greengrass.deployments")
                case Interrupt(deployment):
                    # Later, for it may be the running one itself that took this step.
                    asyncio.get_running_loop().call_soon(self._interrupt, deployment.id)
                case Rejected(deployment, outcome):
                    self._tasks.create_task(self._end(deployment, outcome), name="agent.greengrass.deployments.end")
                case Dropped(deployment, reason, by):
                    why = f"the deployment was {reason.value}{by and f' by {by}'} before it began"
                    outcome = given_up(why, canceled=reason is DropReason.CANCELED)
                    self._tasks.create_task(self._give_up(deployment, outcome), name="agent.greengrass.deployments.end")
        self._report_queue()
        return effects

    async def _run(self, deployment: Deployment) -> None:
        asked = "back to the set before" if deployment.rollback else ", ".join(deployment.components)
        log.info("deployment %s begins: %s", deployment.id, asked or "nothing stays")
        self._ending = False
        try:
            outcome = await self._deploy(deployment, self._accepted[deployment.id])
        except asyncio.CancelledError:
            if self._queue.running is None or not self._queue.running.cancelled:
                raise
            outcome = None
        self._ending = True
        if self._restart is None:
            self.handshake.updated(deployment.id)
        if outcome is not None:
            level = logging.INFO if outcome.status is DetailedStatus.SUCCESSFUL else logging.WARNING
            log.log(level, "deployment %s: %s%s", deployment.id, outcome.status, outcome.cause and f": {outcome.text}")
        restart, self._restart = self._restart, None
        if outcome is not None:
            await self._end(deployment, outcome)
        elif restart is None:
            await self._give_up(deployment, queues.interrupted(self._queue))
        if restart is not None:
            log.warning("deployment %s asks for a restart of the %s", deployment.id, restart.name.lower())
            self._leave(restart)
            return
        self._step(Ended(deployment.id, outcome))

    def _interrupt(self, identity: str) -> None:
        running = self._queue.running
        if self._running is not None and not self._ending and running is not None and running.deployment.id == identity:
            self._running.cancel()

    async def _deploy(self, deployment: Deployment, accepted: _Accepted) -> Outcome | None:
        """Run a deployment to its end; None when it was cancelled before activation, or waits for a restart."""
        bootstrapped = await self._ledger.bootstraps(accepted.seq)
        transaction = Transaction(
            deployment, self.state, self._workspace, lambda progress: self._report(deployment, progress),
            digests=accepted.admission.digests, bootstrapped=bootstrapped,
        )  # fmt: skip
        try:
            # Once more: while it waited, a key may have been revoked, or the group have got what is not its signer's.
            self.authorize(deployment, accepted.admission)
            if not await self._advance(deployment, transaction, accepted):
                return None
        except RollbackFailedError as error:
            return failed(DetailedStatus.FAILED_UNABLE_TO_ROLLBACK, error)
        except Exception as error:  # a fault of ours costs this deployment, and not the agent
            if not isinstance(error, VergeError | OSError):
                log.exception("deployment %s failed unexpectedly", deployment.id)
            touched = transaction.touched
            self._state = self._state.failed(deployment, error)
            try:
                self._restart = await transaction.bootstrap_back()
            except RollbackFailedError as worse:
                return failed(DetailedStatus.FAILED_UNABLE_TO_ROLLBACK, worse)
            status = DetailedStatus.FAILED_ROLLBACK_COMPLETE if touched else DetailedStatus.FAILED_NO_STATE_CHANGE
            return failed(status, error)
        await transaction.finish()
        return transaction.outcome

    async def _advance(self, deployment: Deployment, transaction: Transaction, accepted: _Accepted) -> bool:
        """Take the steps, each written before, up to the commit; False when it was cancelled or waits for a restart."""
        seq = accepted.seq
        try:
            async with aclosing(transaction.steps()) as steps:
                async for progress in steps:
                    if progress.changes:
                        # While it waited for an artifact or a canary a key may have been revoked.
                        self.authorize(deployment, accepted.admission)
                        if self._step(Activating(deployment.id)):
                            return False
                        continue
                    if progress.bootstrapped is not None:
                        await self._ledger.bootstrapped(seq, *progress.bootstrapped)
                        continue
                    if progress.step in _CHANGING:
                        await self._order.use_up(accepted.claims)
                    await self._ledger.step(seq, progress.step)
                    self._report(deployment, progress)
            if transaction.restart is not None:
                self._restart = transaction.restart
                return False
            self._state = await transaction.commit(self._state, partial(self._ledger.commit, seq))
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

    async def _give_up(self, deployment: Deployment, outcome: Outcome) -> None:
        """End what was cancelled or overtaken; its document is used up."""
        await self._order.give_up(self._accepted[deployment.id].claims)
        await self._end(deployment, outcome)

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
        waiting = {"waiting": progress.waiting.to_plain()} if progress.waiting else {}
        self._published.publish(deployment.id, {**status, **progress.details, **waiting})
        self._step(Waits(deployment.id, progress.waiting is not None))
        for listener in self._listeners:
            listener.began()
        if deployment.id in self._accepted:
            self._accepted[deployment.id].requester.progress(progress.step)

    def _report_queue(self) -> None:
        """Publish of what waits in the queue what it waits behind, where that has changed."""
        now = queues.behind(self._queue)
        changed = [identity for identity, before in now.items() if before != self._behind.get(identity)]
        self._behind = now
        for identity in changed:
            self._published.publish(
                identity, {"id": identity, "status": "QUEUED", "waiting": behind(now[identity]).to_plain()}
            )

    def _report_end(self, end: DeploymentEnded, seq: int, requester: Requester) -> None:
        """Publish how a deployment ended, and inform its requester; the ledger knows once the broker has it."""

        def delivered(error: VergeError | None) -> None:
            if error is None:
                self._tasks.create_task(self._ledger.reported(seq), name="agent.greengrass.deployments.reported")

        self._published.publish(end.id, topic_payload(end.id, end.outcome), delivered)
        requester.ended(end.id, end.outcome)
        for listener in self._listeners:
            listener.ended(end)

    def _not_written(self, identity: str, arrival: Arrival, error: LedgerError) -> None:
        """What cannot be written down is not begun: whoever asked is informed."""
        outcome = failed(DetailedStatus.FAILED_NO_STATE_CHANGE, error)
        log.warning("deployment %s is not begun: %s", identity, error)
        self._published.publish(identity, topic_payload(identity, outcome))
        arrival.requester.ended(identity, outcome)
