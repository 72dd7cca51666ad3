"""Frames from the files of a folder: one at each beat, or each new and changed one.

Asked by a beat, the file whose turn it is is read anew, whatever it held before.  Watched, the folder is looked at
every tenth of a second (less often where a look takes long, so that watching takes at most a tenth of a processor);
what is ready waits as names, not as bytes, and is read when the stream has room for it.  Looking, in place of
inotify, works on network shares too, and needs no library.

A file that is no picture counts as a failed frame; a folder or file that is not there is a state, logged once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from agent.config.streams import DirectoryOptions
from agent.errors import FrameError
from agent.mqtt.transport import Message
from agent.sources.base import Receive, Source, SourceState, SourceStatus
from agent.sources.folder import MAX_ENTRIES, FileContent, FolderMissingError, look, read
from agent.sources.watch import Entry, Watch, pick

__all__ = ["DirectorySource", "in_thread"]

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

_PERIOD_S = 0.1
_AGAIN_S = 1.0
_SHARE = 10
_SLOW_S = 10.0
_CONTENT_TYPE = "image"


class DirectorySource(Source):
    """The files of ``folder`` that ``options`` name; ``watched`` gives each change, else each beat one file."""

    kind: ClassVar[Literal["directory"]] = "directory"

    def __init__(
        self, options: DirectoryOptions, folder: Path, *, watched: bool, max_bytes: int,
        changed: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        super().__init__(str(folder / options.name), changed)
        self._options = options
        self._folder = folder
        self._watched = watched
        self._max_bytes = max_bytes
        self._watch: Watch | None = None
        self._waiting: deque[Entry] = deque()
        self._last = ""
        self._crowded = False
        self._asked = asyncio.Event()
        self._busy = False
        self._delivered = 0
        self._receive: Receive | None = None
        self._task: asyncio.Task[None] | None = None

    def open(self, receive: Receive) -> None:
        """Begin to look at the folder."""
        self._receive = receive
        self._busy = False
        self._set(SourceState.STARTING)
        run = self._each_change if self._watched else self._each_beat
        self._task = asyncio.get_running_loop().create_task(run(), name=f"agent.directory.{self._folder.name}")
        self._task.add_done_callback(self._finished)

    def close(self) -> None:
        """Look no more; what waits goes on waiting, should it be opened again."""
        self._receive = None
        if self._task is not None:
            self._task.cancel()
        self._set(SourceState.STOPPED)

    async def wait_closed(self) -> None:
        """Wait for the task; a read that hangs is left behind."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def camera(self, message: Message) -> str:
        """The folder's name."""
        del message
        return self._folder.name or "directory"

    def want(self) -> None:
        """Give the next change as soon as there is one."""
        if self._watched:
            self._asked.set()

    def beat(self) -> bool:
        """Read the file whose turn it is, unless the one before is still being read."""
        if self._busy:
            return False
        self._asked.set()
        return True

    @property
    def status(self) -> SourceStatus:
        """Running while the folder can be read."""
        return SourceStatus(
            kind=self.kind, name=self.name, state=self._state, reason=self._reason, delivered=self._delivered
        )

    # -- at beats ----------------------------------------------------------------------------------------------

    async def _each_beat(self) -> None:
        owed = False
        while True:
            # A beat that brought nothing is made good once there is a file: the next one may be an hour away.
            with suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_S if owed else None):
                    await self._asked.wait()
            self._asked.clear()
            self._busy = True
            try:
                owed = not await self._give(self._turn)
            finally:
                self._busy = False

    def _turn(self) -> FileContent:
        """The file whose turn it is (blocks)."""
        entries, more = look(self._folder, self._options.name)
        self._notice(more)
        entry = pick(entries, self._options.pick, self._last)
        if entry is None:
            raise FolderMissingError(f"{self._folder} holds no picture that fits {self._options.name!r}")
        self._last = entry.name
        return self._read(entry.name)

    # -- changes -----------------------------------------------------------------------------------------------

    async def _each_change(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            if not self._waiting:
                await self._look()
            if not self._waiting:
                await asyncio.sleep(max(_PERIOD_S, _SHARE * (loop.time() - began)))
                continue
            await self._asked.wait()
            self._asked.clear()
            # Taken away when it was given: a read that is broken off by ``close`` is begun anew.
            await self._give(partial(self._read, self._waiting[0].name))
            self._waiting.popleft()

    async def _look(self) -> None:
        try:
            entries, more = await self._patiently(partial(look, self._folder, self._options.name))
        except FolderMissingError as missing:
            self._set(SourceState.WAITING, missing.message)
            return
        self._notice(more)
        self._set(SourceState.RUNNING)
        if self._watch is None:
            self._watch = Watch(self._options.settle_s)
            if not self._options.existing:
                self._watch.know(entries)
        self._waiting.extend(self._watch.look(entries, asyncio.get_running_loop().time()))

    # -- both --------------------------------------------------------------------------------------------------

    async def _give(self, work: Callable[[], FileContent]) -> bool:
        """Have a file read and hand it over; False where there was none."""
        refused: FrameError | None = None
        try:
            shot = await self._patiently(work)
        except FolderMissingError as missing:
            self._set(SourceState.WAITING, missing.message)
            if self._watched:
                self._asked.set()  # nothing came of it: the stream still has room
            return False
        except FrameError as error:
            shot, refused = FileContent(self._last, b"", 0.0), error
        self._set(SourceState.RUNNING)
        self._delivered += 1
        if self._receive is not None:
            message = Message(shot.name, shot.data, content_type=_CONTENT_TYPE)
            self._receive(message, captured_at=shot.modified or None, refused=refused)
        return True

    def _read(self, name: str) -> FileContent:
        self._last = name
        return read(self._folder, name, max_bytes=self._max_bytes, settle_s=self._options.settle_s)

    async def _patiently(self, work: Callable[[], Outcome]) -> Outcome:
        """Wait for blocking work, and say so when it takes long; a second one is never begun beside it."""
        doing = asyncio.ensure_future(in_thread(work, f"read {self._folder.name}"))
        try:
            done, _ = await asyncio.wait({doing}, timeout=_SLOW_S)
            if not done:
                self._set(SourceState.WAITING, f"{self._folder} did not answer within {_SLOW_S:g} s")
            return await doing
        finally:
            doing.cancel()

    def _notice(self, more: bool) -> None:
        if more and not self._crowded:
            log.warning("directory %s: only the first %d files are looked at", self.name, MAX_ENTRIES)
        self._crowded = more

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("directory %s failed", self.name, exc_info=error)
            self._set(SourceState.BROKEN, f"{type(error).__name__}: {error}")


async def in_thread(work: Callable[[], Outcome], name: str) -> Outcome:
    """The result of blocking work, done in a thread that nobody waits for when the agent ends; raises what it raises.

    Not the loop's executor: a file on a share that is gone blocks a read for ever, the executor has few threads, and
    the interpreter waits for them when it ends.  A daemon thread costs about 0.1 ms, which is little beside a picture.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Outcome] = loop.create_future()

    def settle(outcome: Outcome | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(outcome)  # type: ignore[arg-type]  # None only where the work's result is

    def run() -> None:
        outcome, error = None, None
        try:
            outcome = work()
        except Exception as raised:  # noqa: BLE001 it is raised where it is waited for
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, outcome, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
