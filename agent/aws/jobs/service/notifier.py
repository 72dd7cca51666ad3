"""Which device is notified next, and how fast.  Pure; the clock is passed in.

A notice says that a device is to be notified, not of what: it is written from the jobs as they are when its turn comes,
so several changes of one device become one notice, and as many wait as there are devices, however long the broker is
away.  What waits is stored with the jobs until the broker has acknowledged it.

The pace follows the broker, by so many notices in flight, and the fleet: a device that learns of a job asks for it at
once, and a broker drops what it cannot queue for the service, so only so many devices are called that have not asked
yet.  One that does not ask in time is away; it will ask when it connects.
"""

from __future__ import annotations

from collections import OrderedDict

from agent.aws.jobs.service.repository import Mailbox, Notice

__all__ = ["Notifier"]

_IN_FLIGHT = 200
_CALLED = 300
_PATIENCE_S = 0.3


class Notifier:
    """Notices that wait, are in flight, or are settled; times are seconds that never go back."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Mailbox, Notice] = OrderedDict()
        self._in_flight: dict[Mailbox, int] = {}
        self._messages = 0
        self._called: OrderedDict[Mailbox, float] = OrderedDict()
        """Those of whom a request is expected, until when."""
        self._settled: dict[Mailbox, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, notice: Notice) -> None:
        """Have a device be notified, in its turn."""
        before = self._waiting.get(notice.mailbox)
        if before is not None:
            notice = Notice(notice.mailbox, before.listed or notice.listed, before.next_changed or notice.next_changed)
        self._waiting[notice.mailbox] = notice
        self._settled.pop(notice.mailbox, None)

    def take(self, now: float) -> Notice | None:
        """The next notice, if one waits and may be sent now; ``sent`` or ``put`` is to follow."""
        while self._called and next(iter(self._called.values())) <= now:
            self._called.popitem(last=False)
        if not self._waiting or self._messages >= _IN_FLIGHT or len(self._called) >= _CALLED:
            return None
        return self._waiting.popitem(last=False)[1]

    def due(self) -> float | None:
        """When ``take`` has more to give though nothing ended and nobody asked; None where that changes nothing."""
        if not self._waiting or len(self._called) < _CALLED:
            return None
        return next(iter(self._called.values()))

    def sent(self, mailbox: Mailbox, now: float, *, calls: bool) -> None:
        """A notice is in flight; ``calls``: the device has something to ask for."""
        self._messages += 1
        self._in_flight[mailbox] = self._in_flight.get(mailbox, 0) + 1
        if calls:
            self._called[mailbox] = now + _PATIENCE_S
            self._called.move_to_end(mailbox)

    def ended(self, mailbox: Mailbox) -> None:
        """A notice has arrived at the broker, or never will."""
        self._messages -= 1
        left = self._in_flight.pop(mailbox, 1) - 1
        if left:
            self._in_flight[mailbox] = left
        elif mailbox not in self._waiting:
            self._settled[mailbox] = None

    def dropped(self, mailbox: Mailbox) -> None:
        """A notice that no broker would take."""
        self._settled[mailbox] = None

    def asked(self, mailbox: Mailbox) -> None:
        """A device made a request."""
        self._called.pop(mailbox, None)

    def take_settled(self) -> list[Mailbox]:
        """Devices that nothing waits for any more, since the last call: their notices need not be stored."""
        settled, self._settled = self._settled, {}
        return list(settled)
