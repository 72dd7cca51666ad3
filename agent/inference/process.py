"""One worker process as the core sees it: started, loaded, fed, watched, ended.

The socket is a plain asyncio protocol and answers come back by callback, because every frame passes here:
no task, queue or future is made per frame.  The worker is *lost* when its socket closes, whatever the cause;
``reason`` then says which signal or status ended it and what it last wrote to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import BackendUnavailable, ModelRefused, VergeError, WorkerLost
from agent.inference.deadline import Deadline
from agent.inference.job import Job
from agent.inference.runtime import messages
from agent.inference.runtime.ring import Ring
from agent.inference.values import Answer, Description

__all__ = ["DEPTH", "Worker"]

log = logging.getLogger(__name__)

DEPTH = 2
"""Pictures a worker holds: the one it works on and the one that waits, so that it never idles for a round trip."""

_LAUNCHER = Path(__file__).parent / "runtime" / "__main__.py"
_TAIL_BYTES = 4096
_GOODBYE_S = 1.0

_encode = msgspec.json.Encoder().encode
_answer = msgspec.json.Decoder(Answer).decode

Answered = Callable[[Job, "Answer | VergeError"], None]
Event = Callable[["Worker"], None]


class Worker(asyncio.Protocol):
    """A worker process with one model.

    ``on_answer`` gets each answer, ``on_pace`` is called when it becomes late and when it is no longer,
    ``on_lost`` when it is gone.
    """

    def __init__(self, *, slot_bytes: int, floor_s: float, on_answer: Answered, on_pace: Event, on_lost: Event) -> None:
        self.jobs: deque[Job] = deque()
        self.description: Description | None = None
        self.reason = ""
        self.hung = False
        self.lost = False
        self._slot_bytes = slot_bytes
        self._deadline = Deadline(floor_s)
        self._on_answer, self._on_pace, self._on_lost = on_answer, on_pace, on_lost
        self._loop = asyncio.get_running_loop()
        self._decoder = messages.Decoder()
        self._loaded: asyncio.Future[Description] = self._loop.create_future()
        self._slots: dict[int, int] = {}
        self._next_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        self._tail = bytearray()

    async def start(self, interpreter: str, environment: Mapping[str, str]) -> None:
        """Spawn the process and connect to it; raises ``ModelRefused`` when the interpreter cannot be run."""
        ours, theirs = socket.socketpair()
        ring_fd = Ring.create(DEPTH, self._slot_bytes)
        try:
            self._ring = Ring(ring_fd, DEPTH, self._slot_bytes, writable=True)
            self.process = await self._spawn(interpreter or sys.executable, environment, theirs.fileno(), ring_fd)
            self._stderr = self._loop.create_task(self._listen(), name=f"agent.worker.{self.process.pid}.stderr")
            await self._loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            # A worker ends when its socket does.
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(ring_fd)

    async def _spawn(
        self, interpreter: str, environment: Mapping[str, str], *descriptors: int
    ) -> asyncio.subprocess.Process:
        arguments = [str(number) for number in (*descriptors, DEPTH, self._slot_bytes)]
        try:
            return await asyncio.create_subprocess_exec(
                interpreter, str(_LAUNCHER), *arguments,
                pass_fds=descriptors, env=_environment(environment), start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise ModelRefused(
                f"cannot run {interpreter}: {error.strerror}",
                code="interpreter-missing",
                hint="check interpreter = … of the model",
            ) from error

    async def load(self, request: Mapping[str, Any], timeout_s: float) -> Description:
        """Have the model loaded and warmed up; raises ``ModelRefused``, ``BackendUnavailable`` or ``WorkerLost``."""
        self._transport.write(messages.encode(messages.LOAD, request))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(self._loaded)
        except TimeoutError:
            raise WorkerLost(
                f"the model was not loaded within {timeout_s:g} s", code="load-timeout", hint="raise load_timeout_s"
            ) from None

    @property
    def free(self) -> int:
        """How many more pictures it can hold."""
        return 0 if self.lost or self._late else DEPTH - len(self.jobs)

    @property
    def late(self) -> bool:
        """Whether it has taken more than half of its deadline for the picture it works on."""
        return self._late

    def send(self, job: Job) -> None:
        """Hand a picture over; the worker must have a free place."""
        self._next_id += 1
        slot = self._ring.write(job.picture.data)
        self._slots[self._next_id] = slot
        content: dict[str, Any] = {
            "id": self._next_id,
            "slot": slot,
            "length": len(job.picture.data),
            "encoding": job.picture.encoding,
        }
        if job.snapshot is not None:
            content["snapshot"] = job.snapshot
        job.model = self.description
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin(self._loop.time())
        self._transport.write(messages.encode(messages.INFER, _encode(content)))

    def kill(self) -> None:
        """End the process now; ``on_lost`` follows."""
        # Not Process.kill: it polls first, and so may take the exit status from under asyncio's own waiting.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to leave, then see that it has left; what it held is lost."""
        if not self.lost:
            self._transport.write(messages.encode(messages.STOP))
        await self._exit()
        self._transport.close()

    async def explain(self) -> str:
        """Why a lost worker is gone: the signal or status that ended it and its last words."""
        status = await self._exit()
        if not self.reason:
            words = self._tail.decode(errors="replace").strip().splitlines()[-3:]
            self.reason = "; ".join([_cause(status), *words])
        return self.reason

    async def _exit(self) -> int:
        """See that the process is gone, and how it went."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self.process.wait()
        except TimeoutError:
            self.kill()
        status = await self.process.wait()
        await self._stderr
        return status

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is up."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 what a socket gives
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes came: perform what they say."""
        try:
            for envelope in self._decoder.feed(data):
                self._hear(envelope)
        except (messages.ProtocolError, msgspec.DecodeError, KeyError) as error:
            self.reason = f"the worker spoke nonsense: {error}"
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """The process is gone, or about to be."""
        del exc
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        if not self._loaded.done():
            self._refuse(WorkerLost("the worker died while it loaded the model", code="worker-crashed"))
        self._ring.close()
        self._on_lost(self)

    def _hear(self, envelope: messages.Envelope) -> None:
        if envelope.kind == messages.ANSWER:
            answer = _answer(envelope.text)
            if envelope.body:
                answer = msgspec.structs.replace(answer, snapshot=envelope.body)
            self._settle(answer.id, answer)
        elif envelope.kind == messages.LOADED:
            self.description = msgspec.json.decode(envelope.text, type=Description)
            if not self._loaded.done():
                self._loaded.set_result(self.description)
        elif envelope.kind == messages.ERROR:
            self._failed(envelope.content)

    def _failed(self, content: Mapping[str, Any]) -> None:
        identity, code, hint = content.get("id"), str(content["code"]), content.get("hint")
        family = BackendUnavailable if code.startswith(("backend-", "task-", "accelerator-")) else ModelRefused
        error = family(str(content["message"]), code=code, hint=hint)
        if identity is not None:
            self._settle(int(identity), error)
        elif not self._loaded.done():
            self._refuse(error)

    def _refuse(self, error: VergeError) -> None:
        self._loaded.set_exception(error)
        # Whoever waited for it may have been cancelled: then nobody else looks.
        self._loaded.exception()

    def _settle(self, identity: int, outcome: Answer | VergeError) -> None:
        self._ring.release(self._slots.pop(identity))
        job = self.jobs.popleft()
        now = self._loop.time()
        self._deadline.observe(now - job.began)
        if self.jobs:
            self._begin(now)
        if self._late:
            self._late = False
            self._on_pace(self)
        self._on_answer(job, outcome)

    # -- the deadline: one lazy timer a worker, not one a picture ---------------------------------------

    def _begin(self, now: float) -> None:
        self.jobs[0].began = now
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._deadline.seconds / 2, self._look)

    def _look(self) -> None:
        """Half a deadline has passed since some picture began: is it still the one being worked on?"""
        self._timer = None
        if self.lost or not self.jobs:
            return
        now, began = self._loop.time(), self.jobs[0].began
        half = self._deadline.seconds / 2
        if now - began >= 2 * half:
            self.hung = True
            self.reason = f"no answer within {2 * half:.1f} s"
            self.kill()
        elif now - began >= half:
            if not self._late:
                self._late = True
                self._on_pace(self)
            self._timer = self._loop.call_at(began + 2 * half, self._look)
        else:
            self._timer = self._loop.call_at(began + half, self._look)

    async def _listen(self) -> None:
        """Keep the last words; a worker that prints for ever fills nothing."""
        assert self.process.stderr is not None  # noqa: S101 it was asked for
        while data := await self.process.stderr.read(_TAIL_BYTES):
            self._tail += data
            del self._tail[:-_TAIL_BYTES]
            log.debug("worker %d: %s", self.process.pid, data.decode(errors="replace").rstrip())


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The agent's environment without its own settings: a model has no business with passwords."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VERGE_")}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"} | dict(extra)


def _cause(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
