"""Two agents of one thing on one broker: noticed by both, and said.

Each run of an agent has a number of its own in its status.  An agent reads its own status topic:

===========================  =====================================================================================
what comes there (live)      what is done
===========================  =====================================================================================
its own "online"             nothing
another's "online"           it is a problem of the status from now on; the other one gets to read ours, once
another's goodbye or will    the other one is gone; "offline" is not left standing, for this one lives
its own will, come late      the same
===========================  =====================================================================================

What is retained says nothing of who lives, and is not looked at.  Nor does what a kept session held for the agent: an
"online" of another that comes before the agent's own has come back over the link is of the time before, often that of
the process which this one replaces.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agent.errors import InvalidInputError
from agent.mqtt.transport import LinkState, Message, Transport
from agent.status.board import INSTANCE, StatusBoard

__all__ = ["Presence"]

log = logging.getLogger(__name__)

_OTHERS = 16
"""More of them are not looked at."""
_LONGEST = 64
_QUIET_S = 6.0


class Presence:
    """Reads the status topic for ``board``, from ``start`` on."""

    def __init__(self, board: StatusBoard, transport: Transport, topic: str, thing: str) -> None:
        self._board = board
        self._transport = transport
        self._topic = topic
        self._thing = thing
        self._others: dict[str, str] = {}
        self._quiet_until = 0.0
        self._caught_up = False
        """Whether what comes is of the time since the link is up."""

    def start(self) -> Callable[[], None]:
        """Read the topic, from before the agent's own "online" is published; the result ends it."""
        self._caught_up = not self._transport.state.session_present
        self._transport.subscribe(self._topic, self._on_status, qos=1)
        self._transport.watch(self._on_link)
        return lambda: self._transport.unsubscribe(self._topic, self._on_status)

    def _on_link(self, state: LinkState) -> None:
        if state.connected:
            # Whoever is still there is read of again.
            self._others.clear()
            self._caught_up = not state.session_present
            self._report()

    def _on_status(self, message: Message) -> None:
        status = _status(message.payload)
        if status is None:
            return
        instance = str(status.get("instance") or f"pid {status.get('pid')}")[:_LONGEST]
        state = status.get("state")
        if instance == INSTANCE and state == "online":
            self._caught_up = True
        if message.retain:
            return
        if state == "offline":
            self._others.pop(instance, None)
            self._report()
            self._board.publish_online()
        elif state == "online" and self._caught_up and instance != INSTANCE and self._is_new(instance):
            self._others[instance] = _described(status)
            self._warn()
            self._report()
            self._board.publish_all()

    def _is_new(self, instance: str) -> bool:
        return instance not in self._others and len(self._others) < _OTHERS

    def _warn(self) -> None:
        """Log that there is another, but not as often as whoever may write to the topic makes one up."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            log.warning("%s", self._problem())

    def _report(self) -> None:
        self._board.problem("another-agent", self._problem() if self._others else None)

    def _problem(self) -> InvalidInputError:
        who = "; ".join(self._others.values())
        return InvalidInputError(
            f"another agent has the name of this thing, {self._thing}, on this broker: {who}",
            code="another-agent",
            hint="end one of them, or give it another thing: both take the same frames and deployments",
        )


def _status(payload: bytes) -> Mapping[str, Any] | None:
    try:
        status = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return status if isinstance(status, dict) else None


def _described(status: Mapping[str, Any]) -> str:
    pid, host = status.get("pid"), status.get("host")
    place = f" on {host}" if isinstance(host, str) and host.isprintable() else ""
    return f"process {pid}{place}" if isinstance(pid, int) else f"an unknown process{place}"
