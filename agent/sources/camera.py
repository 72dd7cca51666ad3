"""Frames from a camera: a process that plays it, asked for its newest picture, and another one when it is lost.

A camera that dies, hangs or goes away costs a process and never the agent.  Whatever the cause, the next try is a new
process, after a delay that grows: whatever state a driver or a library was in ended with the old one.  Pictures
are asked for (``want``, ``beat``), so a picture that was taken before the camera was lost is never given afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

from agent.config.streams import CameraAddress, CameraOptions, camera_address
from agent.errors import VergeError
from agent.files import under
from agent.mqtt.backoff import Backoff
from agent.mqtt.transport import Message
from agent.sources.base import Receive, Source, SourceState, SourceStatus
from agent.sources.player import Loss, Opened, Player, Shot, refusal
from agent.sources.secrecy import label, shown

__all__ = ["CameraSource"]

log = logging.getLogger(__name__)

_HELD_S = 5.0
"""A camera that played for so long is tried again soon when it is lost."""


class CameraSource(Source):
    """The camera that ``options`` name; relative files start at ``folder``."""

    kind: ClassVar[Literal["camera"]] = "camera"

    def __init__(
        self, options: CameraOptions, folder: Path, *, max_bytes: int, changed: Callable[[], None] = lambda: None,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:  # fmt: skip
        address = camera_address(options.source)
        super().__init__(shown(address), changed)
        if address.kind == "file":
            address = CameraAddress("file", str(under(folder, str(address.address))))
        self._target = address
        self._label = options.name or label(address)
        self._options = options
        self._max_bytes = max_bytes
        self._backoff = backoff
        self._player: Player | None = None
        self._opened: Opened | None = None
        self._encoding: str | None = None
        self._wanted = False
        self._delivered = self._skipped = self._reconnects = 0
        self._receive: Receive | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self, receive: Receive) -> None:
        """Start to play it."""
        self._receive = receive
        self._set(SourceState.STARTING)
        before = self._task
        self._task = asyncio.get_running_loop().create_task(self._run(before), name=f"agent.camera.{self._label}")
        self._task.add_done_callback(self._finished)

    def close(self) -> None:
        """End its process."""
        self._receive = None
        if self._task is not None:
            self._task.cancel()
        if self._player is not None:
            self._player.kill()
        self._set(SourceState.STOPPED)

    async def wait_closed(self) -> None:
        """Wait until its process is gone."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def camera(self, message: Message) -> str:
        """Its name."""
        del message
        return self._label

    def want(self) -> None:
        """Give its newest picture as soon as there is one that was not given yet."""
        self._wanted = True
        self._ask()

    def beat(self) -> bool:
        """Give its newest picture, unless it is away or the one before has not come; the first one is waited for."""
        if self._state is SourceState.STARTING and not self._delivered:
            self._wanted = True
            return True
        if self._opened is None or self._player is None or self._player.asked:
            return False
        self._player.ask()
        return True

    @property
    def pid(self) -> int:
        """Its process now; 0 while there is none."""
        return self._player.pid if self._player else 0

    @property
    def status(self) -> SourceStatus:
        """Running while it plays."""
        facts = self._opened or Opened()
        return SourceStatus(
            kind=self.kind, name=self.name, state=self._state, reason=self._reason, delivered=self._delivered,
            skipped=self._skipped + (self._player.skipped if self._player else 0), reconnects=self._reconnects,
            width=facts.width or None, height=facts.height or None, fps=facts.fps or None, encoding=self._encoding,
        )  # fmt: skip

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})  # a device plays for one process at a time
        loop = asyncio.get_running_loop()
        backoff = self._backoff()
        while True:
            began = loop.time()
            loss = await self._play()
            if loss.ended:
                self._set(SourceState.ENDED)
                return
            if loop.time() - began > _HELD_S:
                backoff.reset()
            self._set(SourceState.BROKEN if loss.wrong else SourceState.WAITING, loss.reason)
            await asyncio.sleep(backoff.slow_s() if loss.wrong else backoff.next_s())
            self._reconnects += 1

    async def _play(self) -> Loss:
        """Have a process play it until it is lost."""
        player = self._player = Player(
            self._options, self._target, slot_bytes=self._max_bytes, on_opened=self._on_opened, on_frame=self._on_frame
        )
        try:
            await player.start()
            return await player.lost
        except VergeError as error:
            return refusal(error)
        finally:
            self._skipped += player.skipped
            self._player = self._opened = None
            await asyncio.shield(player.end())

    def _ask(self) -> None:
        if self._player is not None and self._opened is not None and not self._player.asked:
            self._player.ask()

    def _on_opened(self, opened: Opened) -> None:
        self._opened = opened
        self._set(SourceState.RUNNING)
        if self._wanted:
            self._ask()

    def _on_frame(self, shot: Shot, data: bytes) -> None:
        self._wanted = False
        self._encoding = shot.encoding
        self._delivered += 1
        if self._receive is not None:
            self._receive(Message(self.name, data), captured_at=shot.captured_at)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("camera %s failed", self.name, exc_info=error)
            self._set(SourceState.BROKEN, f"{type(error).__name__}: {error}")
