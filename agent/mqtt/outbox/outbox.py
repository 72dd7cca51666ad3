"""The outbox around a transport, itself a ``Transport``.

A message of QoS 1 or 2 goes through the writer to the store; what is stored goes to the scheduler, which decides what
is handed over to the transport; its PUBACK takes it out of the store.  All other calls pass through.  The event loop
never waits for the disk and holds a bounded number of messages: those not stored yet, handed over, live, or read
ahead.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Self

from agent.config.transports import OutboxOptions
from agent.errors import NotConnectedError, PublishError, UnreachableError, VergeError
from agent.mqtt.outbox import scheduler
from agent.mqtt.outbox.database import Connect, Drop
from agent.mqtt.outbox.record import NUMBER, SHIFT, Record, Sorting, identified, written
from agent.mqtt.outbox.scheduler import Scheduler
from agent.mqtt.outbox.store import Clock, Job, Report, Store, Writer, connect
from agent.mqtt.transport import Checked, Counts, Delivered, Handler, Limits, LinkState, Message, Transport

__all__ = ["Outbox", "OutboxStatus"]

log = logging.getLogger("agent.mqtt.outbox")

_LEAVE_S = 2.0


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """What an outbox says of itself; the counters begin with the process."""

    state: str
    """``disk``, or ``memory`` while the disk takes nothing."""
    reason: str = ""
    """Why it is not on disk, or what was set aside."""
    depth: int = 0
    """Messages that wait, those in flight included."""
    bytes: int = 0
    oldest_age_s: float | None = None
    in_flight: int = 0
    delivered: int = 0
    replayed: int = 0
    """Of the delivered those that had waited on disk."""
    superseded: int = 0
    """States in whose place a newer one went."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """By reason: ``outbox-full``, ``expired``, ``corrupt``, ``outbox-busy``, ``disk-full`` …, or why the broker
    refused them."""
    set_aside: str = ""
    """Where the last file is that could not be read."""


class Outbox:
    """``inner`` with an outbox in the file ``path``; ``inner`` never takes a payload over ``max_payload_bytes``."""

    def __init__(
        self,
        inner: Transport,
        options: OutboxOptions,
        path: Path,
        *,
        max_payload_bytes: int | None = None,
        clock: Clock | None = None,
        connecting: Connect = connect,
    ) -> None:
        self.name = inner.name
        self.inner = inner
        self._max_payload_bytes = max_payload_bytes
        self._clock = clock or Clock()
        self._sorting = Sorting(options)
        self._options = options
        self._store = Store(path, options, lambda topic: self._sorting.route(topic).rank, connecting)
        self._scheduler = Scheduler(options)
        self._writer = Writer(self.name, self._store, self._clock, self._scheduler.held, self._on_report)
        self._number = self._clock.now_ms() * 1000
        """Of the last message; later than any of an earlier process, where the clock is right."""
        self._run = secrets.token_hex(6)
        self._unsafe: dict[int, Delivered | None] = {}
        """What is neither on disk nor has ended, in the order of publication, and who waits for that."""
        self._until_safe: deque[tuple[int, Callable[[], None]]] = deque()
        """The number up to which all must be safe, and what is called then."""
        self._events: deque[scheduler.Event] = deque()
        self._feeding = False
        self._settled = asyncio.Event()
        self._closed = False
        self._status = OutboxStatus("disk")
        self._lost: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        inner.watch(self._on_link)

    # -- Transport ------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where the broker is, for people."""
        return self.inner.address

    @property
    def state(self) -> LinkState:
        """The link as it is now."""
        return self.inner.state

    @property
    def limits(self) -> Limits:
        """What the broker takes, as far as it is known."""
        return self.inner.limits

    @property
    def counts(self) -> Counts:
        """What the outbox says of itself, and what the transport counts."""
        return {"outbox": asdict(self.status), **self.inner.counts}

    @property
    def status(self) -> OutboxStatus:
        """What the outbox says of itself."""
        return replace(
            self._status,
            depth=self._status.depth + len(self._writer),
            bytes=self._status.bytes + self._writer.bytes,
            in_flight=len(self._scheduler.handed_over),
            delivered=self._counts["delivered"],
            replayed=self._counts["replayed"],
            superseded=self._counts["superseded"],
            lost=dict(self._lost),
        )

    async def wait_connected(self, timeout_s: float) -> LinkState:
        """The state once the link is up; raises ``BrokerUnreachableError`` with the reason when it is not in time."""
        return await self.inner.wait_connected(timeout_s)

    async def __aenter__(self) -> Self:
        await self._writer.open()
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await self._settle()
        finally:
            await self.inner.__aexit__(*exc_info)
            await self._writer.close()
            self._until_safe.clear()
            for seq in tuple(self._unsafe):
                self._call_back(
                    seq, NotConnectedError(f"{self.name} was closed before a message was on disk or delivered")
                )

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0, manual_ack: bool = False) -> None:
        """Have ``handler`` called for each message that matches, now and after each reconnect."""
        self.inner.subscribe(topic_filter, handler, qos=qos, manual_ack=manual_ack)

    async def granted(self, topic_filter: str) -> str | None:
        """Wait for the broker's answer to a filter."""
        return await self.inner.granted(topic_filter)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        """Forget the pair; the last handler of a filter also leaves it at the broker."""
        self.inner.unsubscribe(topic_filter, handler)

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message of a ``manual_ack`` subscription: it is done with."""
        self.inner.acknowledge(message)

    def hold(self) -> None:
        """Hand on and acknowledge nothing of a session that outlives this process, and leave none of its filters."""
        self.inner.hold()

    @property
    def hands_over(self) -> bool:
        """Whether what is not acknowledged now comes to the next process."""
        return self.inner.hands_over

    def release(self) -> None:
        """Every subscriber is there: what was held back is theirs, and filters that nobody wants are left."""
        self.inner.release()

    def watch(self, listener: Callable[[LinkState], None]) -> None:
        """Have ``listener`` called whenever the link goes up or down."""
        self.inner.watch(listener)

    def when_safe(self, call: Callable[[], None]) -> None:
        """Call once each message published so far is on disk, or the broker has it, or it is lost and counted."""
        if self._unsafe:
            self._until_safe.append((self._number, call))
        else:
            self.inner.when_safe(call)

    def publish(
        self, message: Message, on_delivered: Delivered | None = None, *, checked: Checked | None = None
    ) -> None:
        """Put a message into the outbox; raises ``PublishError`` or ``NotConnectedError`` when it cannot be taken.

        ``on_delivered`` is called once: with None when the message is on disk, or the broker has it, whichever is
        first; or with the error that lost it before that.  QoS 0 passes by the outbox.
        """
        route = self._sorting.route(message.topic)
        if not message.qos or not route.stored:
            self.inner.publish(message, on_delivered, checked=checked)
            return
        message = identified(message, f"{self._run}-{self._number + 1:x}")
        checked = self._checked(message)
        facts, size = written(message)
        self._check_room(message, size)
        self._number += 1
        record = Record(route.rank << SHIFT | self._number, self._clock.now_ms(), message, facts, size, checked)
        self._unsafe[record.seq] = on_delivered
        self._writer.add(record)

    def _checked(self, message: Message) -> Checked:
        """Against the limits as they are known now; those of a later connection the transport checks."""
        limits = self.inner.limits
        checked = Checked(limits, limits.check(message))
        if self._max_payload_bytes is not None and len(message.payload) > self._max_payload_bytes:
            raise PublishError(
                f"a message of {len(message.payload)} bytes for {message.topic!r} is larger than max_queued_bytes",
                code="packet-too-large",
                hint="raise max_queued_bytes, or publish less",
            )
        return checked

    def _check_room(self, message: Message, size: int) -> None:
        if self._closed:
            raise NotConnectedError(f"no link for {message.topic!r}: closed")
        if size > self._options.max_bytes:
            raise PublishError(
                f"a message of {size} bytes for {message.topic!r} is larger than the whole outbox",
                code="outbox-too-small",
                hint="raise max_bytes of the outbox",
            )
        if not self._writer.has_room(size):
            self._lost["outbox-busy"] += 1
            raise NotConnectedError(
                f"no room for {message.topic!r}: {len(self._writer)} messages wait for the disk",
                code="outbox-busy",
                hint="publish less at once, or name a faster disk",
            )

    # -- the store -------------------------------------------------------------------------------------------

    def _on_report(self, job: Job, report: Report) -> None:
        """Pass the outcome of a job on to the callers, the counters and the scheduler."""
        if report.opened:
            self._number = max(self._number, report.last)
            self._clock.not_before(report.newest_ms)
            self._feed(scheduler.Opened(report.topics))
        if report.broken:
            self._lost["corrupt"] += report.broken
        for seq in report.durable:
            self._call_back(seq, None)
        dropped = {drop.seq for drop in report.drops}
        fresh = {record.seq for record in job.adds}
        self._count(report.drops)
        self._feed(scheduler.Stored([record for record in job.adds if record.seq not in dropped]))
        if waiting := [drop.topic for drop in report.drops if drop.seq not in fresh]:
            self._feed(scheduler.Dropped(waiting))
        self._feed(scheduler.Removed(report.removed))
        for loaded in report.loaded:
            self._feed(loaded)
        if job.tick:
            self._feed(scheduler.Tick())
        self._describe(report)
        self._check_settled()

    def _count(self, drops: list[Drop]) -> None:
        for drop in drops:
            if drop.reason == "superseded":
                self._counts["superseded"] += 1
                self._call_back(drop.seq, None)
                continue
            self._lost[drop.reason] += 1
            self._call_back(
                drop.seq,
                NotConnectedError(
                    f"the outbox of {self.name} could not keep a message for {drop.topic!r}",
                    code=drop.reason,
                    hint="raise max_bytes of the outbox, make room on the disk, or publish less",
                ),
            )

    def _describe(self, report: Report) -> None:
        store, trouble = self._store, self._store.trouble
        oldest = store.oldest_ms if report.messages else None
        self._status = OutboxStatus(
            state="memory" if trouble else "disk",
            reason=f"{trouble.reason} (hint: {trouble.hint})" if trouble else "",
            depth=report.messages,
            bytes=report.bytes,
            oldest_age_s=None if oldest is None else max(0.0, (self._clock.now_ms() - oldest) / 1e3),
            set_aside=str(store.set_aside or ""),
        )

    # -- the scheduler --------------------------------------------------------------------------------------

    def _on_link(self, state: LinkState) -> None:
        self._feed(scheduler.LinkChanged(state.connected))
        self._check_settled()

    def _feed(self, event: scheduler.Event) -> None:
        """Give an event to the scheduler and perform its effects; events that these cause follow in their turn."""
        self._events.append(event)
        if self._feeding:
            return
        self._feeding = True
        try:
            while self._events:
                self._perform(self._scheduler.step(self._events.popleft()))
        finally:
            self._feeding = False

    def _perform(self, effects: list[scheduler.Effect]) -> None:
        taken = True
        for effect in effects:
            match effect:
                case scheduler.Send(record):
                    # Where one is not taken, those behind it are not tried: they would overtake it.
                    taken = taken and self._hand_over(record)
                    if not taken:
                        self._events.appendleft(scheduler.Bounced(record.seq))
                case scheduler.Remove(seq):
                    self._writer.remove(seq)
                case scheduler.Load():
                    self._writer.load(effect)

    def _hand_over(self, record: Record) -> bool:
        """Hand a message over to the transport; False where that has no room."""
        now_ms, message = self._clock.now_ms(), record.message
        left_s = record.left_s(now_ms)
        if now_ms - record.at_ms > self._options.max_age_s * 1e3 or (left_s is not None and left_s <= 0):
            self._lose(record.seq, "expired")
            return True
        if left_s is not None:
            message = replace(message, expiry_s=left_s)
        try:
            self.inner.publish(message, partial(self._on_end, record.seq), checked=record.checked)
        except UnreachableError:
            return False
        except VergeError as error:
            self._lose(record.seq, error.code)
        return True

    def _on_end(self, seq: int, error: VergeError | None) -> None:
        """The transport is done with a message."""
        if isinstance(error, UnreachableError):
            self._feed(scheduler.Bounced(seq))
        elif error is not None:
            log.warning("a message of the outbox of %s is lost: %s", self.name, error)
            self._lose(seq, error.code)
        else:
            sent = self._scheduler.handed_over.get(seq)
            self._counts.update(delivered=1, replayed=int(sent is not None and sent.replayed))
            self._call_back(seq, None)
            self._feed(scheduler.Ended(seq))
        self._check_settled()

    def _lose(self, seq: int, reason: str) -> None:
        self._lost[reason] += 1
        self._call_back(seq, PublishError(f"a message for {self.name} is lost", code=reason))
        self._feed(scheduler.Ended(seq))

    def _call_back(self, seq: int, error: VergeError | None) -> None:
        caller = self._unsafe.pop(seq, None)
        if caller is not None:
            try:
                caller(error)
            except Exception:
                log.exception("who waited for a message of %s failed", self.name)
        while self._until_safe and self._safe_up_to(self._until_safe[0][0]):
            self.inner.when_safe(self._until_safe.popleft()[1])

    def _safe_up_to(self, number: int) -> bool:
        first = next(iter(self._unsafe), None)
        return first is None or first & NUMBER > number

    # -- leaving --------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until everything is stored, and what was published last is delivered where the link is up."""
        self._feed(scheduler.Leaving())
        self._check_settled()
        await self._settled.wait()

    def _check_settled(self) -> None:
        if self._closed and not self._writer and (self._scheduler.idle or not self.inner.state.connected):
            self._settled.set()
