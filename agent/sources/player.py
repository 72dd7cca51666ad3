"""One process that plays a camera, as the core sees it: started, told what to open, asked, watched, ended.

Both sides write lines of JSON to a socket; pictures cross in one slot of shared memory, which is free whenever the
core asks for the next one.  The address goes over the socket and never into the process's arguments or environment,
where others could read it.

=============  ======================================================================================
the player     means
=============  ======================================================================================
``ready``      its libraries are there
``opened``     the camera plays: its size, pace and how pictures will cross
``seen``       pictures come; told once a second, so that silence means that the camera hangs
``frame``      the slot holds a picture that was asked for
``lost``       it cannot go on, and why; ``ended``: a file is over; ``wrong``: a person has to mend it
=============  ======================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent.config.streams import CameraOptions, Target
from agent.errors import InvalidInputError, VergeError
from agent.inference.child import shortage
from agent.inference.runtime.ring import Ring
from agent.sources.child import CameraChild
from agent.sources.secrecy import scrubber

__all__ = ["Loss", "Opened", "Player", "Shot", "refusal"]

_LAUNCHER = Path(__file__).parent / "runtime" / "__main__.py"
_START_S = 60.0
"""For an interpreter that imports OpenCV on a machine that has much else to do."""
_LINE_BYTES = 64 * 1024
_SURROUNDINGS = {"OPENCV_LOG_LEVEL": "ERROR", "OPENCV_FFMPEG_LOGLEVEL": "24"}
"""FFmpeg's warnings tell what its errors do not, such as a wrong password."""


class Opened(Struct, frozen=True):
    """What a camera says of itself."""

    width: int = 0
    height: int = 0
    fps: float = 0.0


class Shot(Struct, frozen=True):
    """A picture in the slot."""

    length: int
    encoding: str
    captured_at: float


class Loss(Struct, frozen=True, omit_defaults=True):
    """Why a player is gone."""

    reason: str
    ended: bool = False
    wrong: bool = False


class _Said(Struct, frozen=True):
    """A line of the player; one of the keys is there."""

    ready: bool = False
    opened: Opened | None = None
    seen: int | None = None
    skipped: int = 0
    frame: Shot | None = None
    lost: Loss | None = None


_said = msgspec.json.Decoder(_Said).decode
_encode = msgspec.json.Encoder().encode


class Player(asyncio.Protocol):
    """A process for one camera.

    ``on_opened`` and ``on_frame`` are called on the loop; ``lost`` is done when it cannot go on, however that came.
    """

    def __init__(
        self, options: CameraOptions, target: Target, *, slot_bytes: int,
        on_opened: Callable[[Opened], None], on_frame: Callable[[Shot, bytes], None],
    ) -> None:  # fmt: skip
        self._options = options
        self._target = target
        self._slot_bytes = slot_bytes
        self._on_opened, self._on_frame = on_opened, on_frame
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[Loss] = self._loop.create_future()
        self.skipped = 0
        self._child: CameraChild | None = None
        self._ring: Ring | None = None
        self._buffer = b""
        self._heard = self._loop.time()
        self._limit_s = _START_S
        self._waits_for = "it did not start"
        self._asked = self._played = False
        self._scrub = scrubber(target)
        self._farewell: Loss | None = None
        self._transport: asyncio.Transport | None = None
        self._timer = self._loop.call_later(_START_S, self._look)

    async def start(self) -> None:
        """Run the process and tell it what to open.

        Raises ``ModelRefusedError`` when the interpreter cannot be run, ``WorkerLostError`` when the system lacks
        the means now.
        """
        with contextlib.ExitStack() as passed_on:
            try:
                theirs, ring_fd = await self._connect(passed_on)
            except OSError as error:
                raise shortage(error) from error
            numbers = (theirs, ring_fd, self._slot_bytes)
            command = [self._options.interpreter or sys.executable, str(_LAUNCHER), *map(str, numbers)]
            self._child = await CameraChild.spawn(command, _SURROUNDINGS, (theirs, ring_fd))
        self._child.scrub = self._scrub
        self._watching = self._loop.create_task(self._watch(self._child), name=f"agent.camera.{self._child.pid}")
        self._write(_encode(self._request()) + b"\n")

    async def _connect(self, passed_on: contextlib.ExitStack) -> tuple[int, int]:
        """Make the socket and the slot; the result is the descriptors of the player's ends."""
        ours, theirs = socket.socketpair()
        passed_on.callback(theirs.close)
        try:
            ring_fd = Ring.create(1, self._slot_bytes)
            passed_on.callback(os.close, ring_fd)
            self._ring = Ring(ring_fd, 1, self._slot_bytes)
            await self._loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise
        return theirs.fileno(), ring_fd

    @property
    def pid(self) -> int:
        """The process and its session."""
        return self._child.pid if self._child else 0

    @property
    def asked(self) -> bool:
        """Whether a picture was asked for and has not come."""
        return self._asked

    def ask(self) -> None:
        """Have the newest picture that was not handed over yet; ``on_frame`` gets it."""
        self._asked = True
        if self._follows:
            self._heard = self._loop.time()
        self._write(b"{}\n")

    async def end(self) -> None:
        """End the process now and wait until it is gone; nothing more is heard of it."""
        self._timer.cancel()
        self._lose(Loss("closed"))
        self.kill()
        if self._child is not None:
            await self._watching

    def kill(self) -> None:
        """End the process now."""
        if self._child is not None:
            self._child.kill()
        if self._transport is not None:
            self._transport.abort()

    def _write(self, line: bytes) -> None:
        assert self._transport is not None  # noqa: S101 it was started
        self._transport.write(line)

    def _request(self) -> dict[str, Any]:
        wish = self._options
        return {
            "kind": self._target.kind,
            "address": self._target.address,
            "width": wish.width,
            "height": wish.height,
            "fps": wish.fps,
            "fourcc": wish.fourcc,
            "asked": self._follows,
            "loop": wish.loop,
            "timeout_s": wish.timeout_s,
        }

    @property
    def _follows(self) -> bool:
        """Whether it plays a picture only when it is asked for one."""
        return self._target.kind == "file" and self._options.pace == "asked"

    async def _watch(self, child: CameraChild) -> None:
        """Wait for its end; by then, what it last said and what its libraries wrote is there."""
        status = await child.ended()
        loss = self._farewell or Loss(_cause(status))
        # Of a camera that played, the last complaint may be an old one, about something else.
        told = child.complaint if self._farewell is None or not self._played else ""
        self._lose(msgspec.structs.replace(loss, reason=": ".join(filter(None, (self._scrub(loss.reason), told)))))
        self.kill()

    def _lose(self, loss: Loss) -> None:
        if not self.lost.done():
            self.lost.set_result(loss)

    def _look(self) -> None:
        """Is something heard of it often enough?"""
        if self.lost.done():
            return
        now = self._loop.time()
        idle = self._follows and self._played and not self._asked
        due = (now if idle else self._heard) + self._limit_s
        if now >= due:
            self._lose(Loss(f"{self._waits_for} within {self._limit_s:g} s"))
            self.kill()
        else:
            self._timer = self._loop.call_at(due, self._look)

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is up."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 what a socket gives
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Lines came: perform what they say."""
        *lines, rest = (self._buffer + data).split(b"\n")
        # A line without an end is no line; it is read as one, and refused.
        if len(rest) > _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._buffer = rest
        try:
            for line in lines:
                if not self.lost.done():
                    self._hear(_said(line))
        except (msgspec.DecodeError, ValueError) as error:
            self._lose(Loss(f"its process spoke nonsense: {error}"))
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """The process is gone, or about to be."""
        del exc
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _hear(self, said: _Said) -> None:
        self._heard = self._loop.time()
        self.skipped = max(self.skipped, said.skipped)
        if said.frame is not None:
            self._take(said.frame)
        elif said.opened is not None:
            self._played = True
            self._expect("no picture came")
            self._on_opened(said.opened)
        elif said.ready:
            self._expect("it could not be opened")
        elif said.lost is not None:
            self._farewell = said.lost

    def _take(self, shot: Shot) -> None:
        if self._ring is None:
            return
        if not 0 < shot.length <= self._slot_bytes:
            raise ValueError(f"a picture of {shot.length} bytes in a slot of {self._slot_bytes}")
        view = self._ring.read(0, shot.length)
        data = bytes(view)
        view.release()
        self._asked = False
        self._on_frame(shot, data)

    def _expect(self, failing: str) -> None:
        """From now on, not hearing anything for ``timeout_s`` means this."""
        self._waits_for, self._limit_s = failing, self._options.timeout_s
        self._timer.cancel()
        self._timer = self._loop.call_later(self._limit_s, self._look)


def _cause(status: int) -> str:
    if status >= 0:
        return f"its process exited with status {status}"
    with contextlib.suppress(ValueError):
        return f"its process was killed by {signal.Signals(-status).name}"
    return f"its process was killed by signal {-status}"


def refusal(error: VergeError) -> Loss:
    """A process that could not be started."""
    return Loss(str(error), wrong=isinstance(error, InvalidInputError))
