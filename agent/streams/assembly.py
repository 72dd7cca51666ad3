"""Pictures that come to a stream in pieces: the sets under way (``frames.pieces``) and the clock that gives them up.

How pieces are counted: a picture is one frame, however many messages it came in.  It is received with its first piece
and pending while others are missing; then it is answered, dropped or fails as any other.  A set that does not become
whole is one dropped frame, by reason: ``incomplete``, ``pieces-too-large``, ``pieces-no-room``.

A piece is acknowledged as soon as it is taken, and not when its picture is answered: a picture may have more pieces
than the broker sends unacknowledged.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeAlias

from agent.frames.pieces import Lost, Piece, PieceSets, Taken
from agent.mqtt.transport import Message

__all__ = ["Assembly"]

GivenUp: TypeAlias = Callable[[str, Message, str], None]


class Assembly:
    """A stream's sets; ``given_up`` is called with the camera, the last message and the reason of each that is lost."""

    def __init__(self, max_bytes: int, given_up: GivenUp) -> None:
        self._sets: PieceSets[Message] = PieceSets(max_bytes)
        self._given_up = given_up
        self._timer: asyncio.TimerHandle | None = None

    def put(self, camera: str, message: Message, piece: Piece) -> Taken[Message]:
        """Take a piece that came in a message."""
        token = dataclasses.replace(message, payload=b"")
        taken = self._sets.put(camera, piece, token, asyncio.get_running_loop().time())
        self._tell(taken.lost)
        self._arm()
        return taken

    def clear(self, reason: str) -> None:
        """Give up everything."""
        self._tell(self._sets.clear(reason))
        self._arm()

    def _expire(self) -> None:
        self._tell(self._sets.expire(asyncio.get_running_loop().time()))
        self._arm()

    def _tell(self, lost: Iterable[Lost[Message]]) -> None:
        for one in lost:
            self._given_up(one.camera, one.token, one.reason)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._sets.due
        self._timer = None if due is None else asyncio.get_running_loop().call_at(due, self._expire)
