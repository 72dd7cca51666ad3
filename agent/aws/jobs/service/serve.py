"""The Jobs service on a broker: receive requests, apply them, store the changes, answer.

Requests that arrive together are applied together: one transaction, one sync, then the answers.  Nothing is answered
before it is on disk.  A request past ``MAX_WAITING`` is answered with RequestThrottled.

Who is to be notified is stored with the change that made it so, and is notified in its turn, at the pace of
``notifier``, after the answers: no notification is lost with the link, the broker or the service.  When the service
starts, it notifies every device that has something pending, so that no device waits until its request is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

from agent.aws.jobs.messages import Code
from agent.aws.jobs.service.conversation import Outgoing, answer, notifications, refuse
from agent.aws.jobs.service.management import ANSWERS, BASE, VERBS, failure, manage
from agent.aws.jobs.service.notifier import Notifier
from agent.aws.jobs.service.queue import JobQueue
from agent.aws.jobs.service.repository import JobRepository, Mailbox, Notice
from agent.aws.jobs.service.store import JobStore
from agent.aws.jobs.topics import PREFIX, read_request, request_filters
from agent.errors import UnreachableError, VergeError
from agent.mqtt.strangers import is_canary
from agent.mqtt.transport import Message, Transport

__all__ = ["MAX_WAITING", "JobsService", "steady_clock"]

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
_QOS = 1
_AGAIN_S = 0.5
"""How long until a notice that the link did not take is tried again, and notices that arrived are forgotten on disk."""


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch that do not jump when the clock is set."""
    epoch = time.time() - time.monotonic()
    return lambda: epoch + time.monotonic()


class JobsService:
    """Serves devices and management on ``transport`` while it is entered; ``clock`` gives seconds since the epoch."""

    def __init__(
        self, transport: Transport, store: JobStore, *, prefix: str = PREFIX, clock: Callable[[], float] | None = None
    ) -> None:
        self._transport = transport
        self._store = store
        self._prefix = prefix
        self._clock = clock or steady_clock()
        self._waiting: deque[Message] = deque()
        self._timer: asyncio.Handle | None = None
        self._notifier = Notifier()
        self._notifying: asyncio.TimerHandle | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._subscribed: list[str] = []
        self._closed = False
        self._queue = JobQueue(JobRepository(store.read()))

    async def __aenter__(self) -> Self:
        for topic_filter in (*request_filters(self._prefix), *(f"{BASE}/{verb}" for verb in VERBS)):
            self._transport.subscribe(topic_filter, self._on_request, qos=_QOS)
            self._subscribed.append(topic_filter)
        for notice in self._store.notices():
            self._notifier.put(notice)
        for mailbox in self._queue.repository.mailboxes():
            self._notifier.put(Notice(mailbox, True, True))
        self._work_soon()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for topic_filter in self._subscribed:
            self._transport.unsubscribe(topic_filter, self._on_request)
        self._subscribed.clear()
        for timer in (self._timer, self._notifying, self._settling):
            if timer is not None:
                timer.cancel()
        self._closed = True

    def _on_request(self, message: Message) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(message)
            self._work_soon()
        else:
            self._refuse([message], Code.REQUEST_THROTTLED, "too many requests wait")

    def _work_soon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Serve all waiting requests, then set the timer for the next time-out."""
        now = self._clock()
        requests, self._waiting = self._waiting, deque()
        answers = [answered for message in requests if (answered := self._answer(message, now)) is not None]
        self._queue.tick(now)
        notices = self._queue.repository.take_notices()
        try:
            self._store.write(self._queue.repository.take_changes(), notices, self._notifier.take_settled())
        except sqlite3.Error as error:
            # A change that is not on disk did not happen.
            log.exception("the jobs could not be written; going back to what was")
            self._queue = JobQueue(JobRepository(self._store.read()))
            self._refuse(requests, Code.INTERNAL_ERROR, f"the jobs could not be written: {error}")
        else:
            for notice in notices:
                self._notifier.put(notice)
            self._publish(answers)
            self._notify()
        due = self._queue.due()
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._work)

    def _answer(self, message: Message, now: float) -> Message | None:
        verb = message.topic.removeprefix(f"{BASE}/")
        if verb in VERBS:
            return self._managed(message, verb, now)
        if (request := read_request(self._prefix, message.topic)) is not None:
            self._notifier.asked(Mailbox(request.thing, request.namespace))
        done = answer(self._queue, self._prefix, message.topic, message.payload, now)
        return None if done is None else _message(done)

    def _managed(self, message: Message, verb: str, now: float) -> Message | None:
        if is_canary(message.payload):
            return None
        if not _answerable(message):
            log.warning("%s was not done: its response topic is not under %s", message.topic, ANSWERS)
            return None
        return _reply(message, manage(self._queue, verb, message.payload, now))

    def _refuse(self, requests: Iterable[Message], code: Code, reason: str) -> None:
        """Answer that the service cannot serve these requests now."""
        now = self._clock()
        for message in requests:
            if not message.topic.startswith(f"{BASE}/"):
                self._publish([refuse(message.topic, message.payload, code, reason, now)])
            elif _answerable(message):
                self._publish([_reply(message, failure(code, reason))])

    def _notify(self) -> None:
        """Notify those whose turn it is."""
        if self._notifying is not None:
            self._notifying.cancel()
            self._notifying = None
        now = self._clock()
        while (notice := self._notifier.take(now)) is not None:
            if not self._send(notice, now):
                self._notify_at(now + _AGAIN_S)
                return
        due = self._notifier.due()
        if due is not None:
            self._notify_at(due)

    def _notify_at(self, when: float) -> None:
        wait_s = max(0.0, when - self._clock())
        self._notifying = asyncio.get_running_loop().call_later(wait_s, self._notify)

    def _send(self, notice: Notice, now: float) -> bool:
        """Whether the link took a notice; otherwise it waits again."""
        mailbox = notice.mailbox
        *others, last = notifications(self._queue, self._prefix, notice, now)
        try:
            for outgoing in others:
                self._transport.publish(_message(outgoing))
            self._transport.publish(_message(last), partial(self._notified, notice))
        except UnreachableError as error:
            log.info("%d devices wait to be notified: %s", len(self._notifier) + 1, error)
            self._notifier.put(notice)
            return False
        except VergeError as error:
            log.warning("%s cannot be notified: %s", mailbox.thing, error)
            self._notifier.dropped(mailbox)
            return True
        self._notifier.sent(mailbox, now, calls=self._queue.repository.next(mailbox) is not None)
        return True

    def _notified(self, notice: Notice, error: VergeError | None) -> None:
        if self._closed:
            return  # what did not arrive is in the store
        self._notifier.ended(notice.mailbox)
        if isinstance(error, UnreachableError):
            self._notifier.put(notice)
        elif error is not None:
            log.warning("%s cannot be notified: %s", notice.mailbox.thing, error)
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(_AGAIN_S, self._settle)
        self._notify()

    def _settle(self) -> None:
        self._settling = None
        self._work_soon()

    def _publish(self, messages: Iterable[Outgoing | Message]) -> None:
        for message in messages:
            try:
                self._transport.publish(message if isinstance(message, Message) else _message(message))
            except VergeError as error:
                # Devices repeat a request that nobody answered.
                log.warning("an answer did not go out: %s", error)


def _answerable(message: Message) -> bool:
    return message.response_topic is not None and message.response_topic.startswith(ANSWERS)


def _reply(message: Message, payload: bytes) -> Message:
    return Message(message.response_topic or "", payload, qos=_QOS, correlation_data=message.correlation_data)


def _message(outgoing: Outgoing) -> Message:
    return Message(outgoing.topic, outgoing.payload, qos=_QOS)
