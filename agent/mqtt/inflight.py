"""What is published and not delivered yet, in the order it was published.

Pure.  A message waits, is in flight under its packet id, and ends: delivered or lost.  QoS 0 messages
end lost with the link, the others wait for the next one; what was in flight goes first then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from agent.mqtt.transport import Delivered, Message

__all__ = ["Outbox", "Parcel"]


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """A message on its way and who wants to know how it ended."""

    message: Message
    on_delivered: Delivered | None


class Outbox:
    """The waiting and the flying; bounded by whoever adds."""

    def __init__(self) -> None:
        self._waiting: deque[Parcel] = deque()
        self._flying: dict[int, tuple[Parcel, int]] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._flying)

    def __iter__(self) -> Iterator[Parcel]:
        yield from (parcel for parcel, _ in self._flying.values())
        yield from self._waiting

    @property
    def flying(self) -> list[Parcel]:
        """What is sent and not acknowledged."""
        return [parcel for parcel, _ in self._flying.values()]

    def add(self, parcel: Parcel) -> None:
        """Have ``parcel`` wait behind all others."""
        self._waiting.append(parcel)

    def next(self, window: int) -> Parcel | None:
        """Take the first that waits, or None when none does or ``window`` are in flight."""
        return self._waiting.popleft() if self._waiting and len(self._flying) < window else None

    def put_back(self, parcel: Parcel) -> None:
        """Have ``parcel`` wait before all others: it could not be sent after all."""
        self._waiting.appendleft(parcel)

    def sent(self, packet_id: int, parcel: Parcel, qos: int) -> None:
        """``parcel`` flies under ``packet_id``, with the QoS that the broker takes."""
        self._flying[packet_id] = (parcel, qos)

    def ended(self, packet_id: int) -> tuple[Parcel, int] | None:
        """Take what flew under ``packet_id`` and with which QoS; None when it is not known."""
        return self._flying.pop(packet_id, None)

    def grounded(self) -> None:
        """Have what flies wait again, first: its packet ids mean nothing any more."""
        self._waiting.extendleft(parcel for parcel, _ in reversed(self._flying.values()))
        self._flying.clear()

    def unsendable(self) -> list[Parcel]:
        """Take what is QoS 0: the link is lost, and they with it."""
        lost = [parcel for parcel, qos in self._flying.values() if not qos]
        lost += [parcel for parcel in self._waiting if not parcel.message.qos]
        self._flying = {packet_id: flight for packet_id, flight in self._flying.items() if flight[1]}
        self._waiting = deque(parcel for parcel in self._waiting if parcel.message.qos)
        return lost
