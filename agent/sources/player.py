"""One process that plays a camera, as the core sees it: started, given its camera, asked for pictures, watched, ended.

Both sides write lines of JSON to a socket; pictures cross in one slot of shared memory, which is free whenever the
core asks for the next one.  The address goes over the socket and never into the process's arguments or environment,
where others could read it.

=============  ======================================================================================
the player     means
=============  ======================================================================================
``ready``      its libraries are there
``opened``     the camera plays: its size, pace and how pictures will cross
``seen``       pictures come; sent once a second, so that silence means that the camera hangs
``frame``      the slot holds a picture that was asked for
``lost``       it cannot go on, and why; ``ended``: a file is over; ``wrong``: a person has to mend it
=============  ======================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from agent.config.streams import CameraAddress, CameraOptions
from agent.errors import InvalidInputError, VergeError
from agent.inference.child import Child, shortage
from agent.inference.runtime.ring import Ring
from agent.sources.secrecy import scrubber

__all__ = ["CameraChild", "Loss", "Opened", "Player", "Shot", "refusal"]

_LAUNCHER = Path(__file__).parent / "runtime" / "__main__.py"
_START_S = 60.0
"""For an interpreter that imports OpenCV on a machine that has much else to do."""
_LINE_BYTES = 64 * 1024
_SURROUNDINGS = {"OPENCV_LOG_LEVEL": "ERROR", "OPENCV_FFMPEG_LOGLEVEL": "24"}
"""FFmpeg's warnings say what its errors do not, such as a wrong password."""
_STDERR_LINE_BYTES = 8192
_DECORATION = re.compile(r"^\[.*?\]\s*")


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


class _Message(Struct, frozen=True):
    """A line of the player; one of the keys is there."""

    ready: bool = False
    opened: Opened | None = None
    seen: int | None = None
    skipped: int = 0
    frame: Shot | None = None
    lost: Loss | None = None


_message = msgspec.json.Decoder(_Message).decode
_encode = msgspec.json.Encoder().encode


class Player(asyncio.Protocol):
    """A process for one camera.

    ``on_opened`` and ``on_frame`` are called on the loop; ``lost`` is done when it cannot go on, however that came.
    """

    def __init__(
        self, options: CameraOptions, target: CameraAddress, *, slot_bytes: int,
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
        self._last_message_at = self._loop.time()
        self._limit_s = _START_S
        self._waits_for = "it did not start"
        self._asked = self._played = False
        self._scrub = scrubber(target)
        self._last_loss: Loss | None = None
        self._transport: asyncio.Transport | None = None
        self._timer = self._loop.call_later(_START_S, self._check_silence)

    async def start(self) -> None:
        """Run the process and send it what to open.

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
            self._last_message_at = self._loop.time()
        self._write(b"{}\n")

    async def end(self) -> None:
        """End the process now and wait until it is gone; no event of it follows."""
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
        options = self._options
        return {
            "kind": self._target.kind,
            "address": self._target.address,
            "width": options.width,
            "height": options.height,
            "fps": options.fps,
            "fourcc": options.fourcc,
            "asked": self._follows,
            "loop": options.loop,
            "timeout_s": options.timeout_s,
        }

    @property
    def _follows(self) -> bool:
        """Whether it plays a picture only when it is asked for one."""
        return self._target.kind == "file" and self._options.pace == "asked"

    async def _watch(self, child: CameraChild) -> None:
        """Wait for its end; by then, its last message and what its libraries wrote is there."""
        status = await child.ended()
        loss = self._last_loss or Loss(_cause(status))
        # Of a camera that played, the last error may be an old one, about something else.
        last_error = child.last_error if self._last_loss is None or not self._played else ""
        reason = ": ".join(filter(None, (self._scrub(loss.reason), last_error)))
        self._lose(msgspec.structs.replace(loss, reason=reason))
        self.kill()

    def _lose(self, loss: Loss) -> None:
        if not self.lost.done():
            self.lost.set_result(loss)

    def _check_silence(self) -> None:
        """Does it send something often enough?"""
        if self.lost.done():
            return
        now = self._loop.time()
        idle = self._follows and self._played and not self._asked
        due = (now if idle else self._last_message_at) + self._limit_s
        if now >= due:
            self._lose(Loss(f"{self._waits_for} within {self._limit_s:g} s"))
            self.kill()
        else:
            self._timer = self._loop.call_at(due, self._check_silence)

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is up."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 what a socket gives
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Lines came: handle the messages."""
        *lines, rest = (self._buffer + data).split(b"\n")
        # A line without an end is no line; it is read as one, and refused.
        if len(rest) > _LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._buffer = rest
        try:
            for line in lines:
                if not self.lost.done():
                    self._handle(_message(line))
        except (msgspec.DecodeError, ValueError) as error:
            self._lose(Loss(f"its process spoke nonsense: {error}"))
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """The process is gone, or about to be."""
        del exc
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    def _handle(self, message: _Message) -> None:
        self._last_message_at = self._loop.time()
        self.skipped = max(self.skipped, message.skipped)
        if message.frame is not None:
            self._take(message.frame)
        elif message.opened is not None:
            self._played = True
            self._expect("no picture came")
            self._on_opened(message.opened)
        elif message.ready:
            self._expect("it could not be opened")
        elif message.lost is not None:
            self._last_loss = message.lost

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
        """From now on, no message for ``timeout_s`` means this."""
        self._waits_for, self._limit_s = failing, self._options.timeout_s
        self._timer.cancel()
        self._timer = self._loop.call_later(self._limit_s, self._check_silence)


def _cause(status: int) -> str:
    if status >= 0:
        return f"its process exited with status {status}"
    with contextlib.suppress(ValueError):
        return f"its process was killed by {signal.Signals(-status).name}"
    return f"its process was killed by signal {-status}"


def refusal(error: VergeError) -> Loss:
    """A process that could not be started."""
    return Loss(str(error), wrong=isinstance(error, InvalidInputError))


class CameraChild(Child):
    """The process, as a worker's is; ``scrub`` takes credentials out of each line before it is logged or kept."""

    def __init__(self) -> None:
        super().__init__()
        self.scrub: Callable[[str], str] = str
        self._rest = b""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep and log whole lines: a secret must not slip through in two halves."""
        lines, newline, rest = (self._rest + data).rpartition(b"\n")
        if len(rest) > _STDERR_LINE_BYTES:
            lines, newline, rest = lines + newline + rest, b"\n", b""
        self._rest = rest
        if newline:
            super().pipe_data_received(fd, self.scrub(lines.decode(errors="replace")).encode() + b"\n")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """What was not ended by a newline is a last line."""
        if self._rest:
            self.pipe_data_received(fd, b"\n")
        super().pipe_connection_lost(fd, exc)

    @property
    def last_error(self) -> str:
        """The last line that a library wrote, without its decoration."""
        lines = [_DECORATION.sub("", line) for line in self.last_words]
        return next((line for line in reversed(lines) if line), "")
