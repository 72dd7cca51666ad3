"""One worker process as the core sees it: started, loaded, fed, watched, ended.

The socket is a plain asyncio protocol and answers come back by callback, because every frame passes here:
no task, queue or future is made per frame.  The worker is *lost* when its socket closes, whatever the cause;
``reason`` then says which signal or status ended it and what it last wrote to standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from agent.errors import BackendUnavailableError, ModelRefusedError, VergeError, WorkerLostError
from agent.frames.frame import Picture
from agent.inference.child import Child, shortage
from agent.inference.runtime import messages
from agent.inference.runtime.ring import Ring
from agent.inference.values import Answer, AnswerMessage, InferenceRequest, ModelMetadata, OutputsMessage, TensorAnswer
from agent.users import Identity

__all__ = ["DEPTH", "Deadline", "Worker"]

DEPTH = 2
"""Requests a worker holds: the one it works on and the one that waits, so that it never idles for a round trip."""

_LAUNCHER = Path(__file__).parent / "runtime" / "__main__.py"
_GOODBYE_S = 1.0
_FINISH_S = 10.0
_FACTOR = 20
_WARM_UP_FACTOR = 10
_LONGEST_FACTOR = 2
_SLOW_S = 0.5
"""A worker that takes longer for an answer holds no second picture, which would be old before its turn."""
_WINDOW = 256
_REFRESH = 64

_encode = msgspec.json.Encoder().encode
_answer = msgspec.json.Decoder(AnswerMessage).decode
_outputs = msgspec.json.Decoder(OutputsMessage).decode

Outcome = Answer | TensorAnswer | VergeError
Answered = Callable[[InferenceRequest[Any], Outcome], None]
Event = Callable[["Worker"], None]


class _Becoming(msgspec.Struct, frozen=True):
    """What a worker is told of its user (``agent.inference.runtime.user``)."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    folders: tuple[str, ...]

    @classmethod
    def of(cls, user: Identity, folders: Iterable[Path]) -> Self:
        return cls(user.uid, user.gid, user.groups, tuple(map(str, folders)))


class Worker(asyncio.Protocol):
    """A worker process with one model.

    ``on_answer`` gets each answer, ``on_pace`` is called when it becomes late and when it is no longer,
    ``on_lost`` when it is gone.
    """

    def __init__(self, *, slot_bytes: int, floor_s: float, on_answer: Answered, on_pace: Event, on_lost: Event) -> None:
        self.requests: deque[InferenceRequest[Any]] = deque()
        self.metadata: ModelMetadata | None = None
        self.reason = ""
        self.hung = False
        self.lost = False
        self._slot_bytes = slot_bytes
        self._deadline = Deadline(floor_s)
        self._on_answer, self._on_pace, self._on_lost = on_answer, on_pace, on_lost
        self._loop = asyncio.get_running_loop()
        self._decoder = messages.MessageDecoder()
        self._loaded: asyncio.Future[ModelMetadata] = self._loop.create_future()
        self._slots: dict[int, int] = {}
        self._next_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._late = False
        self._empty = asyncio.Event()
        self._on_busy: Callable[[], None] | None = None

    async def start(
        self,
        interpreter: str,
        environment: Mapping[str, str],
        user: Identity | None = None,
        folders: Iterable[Path] = (),
    ) -> None:
        """Connect and spawn the process, which becomes ``user`` first; ``folders`` are what it has to reach then.

        Raises ``ModelRefusedError`` when the interpreter cannot be run, ``WorkerLostError`` when the system lacks
        the means now.
        """
        with contextlib.ExitStack() as passed_on:
            try:
                theirs, ring_fd = await self._connect(passed_on)
            except OSError as error:
                raise shortage(error) from error
            numbers = (theirs, ring_fd, DEPTH, self._slot_bytes)
            command = [interpreter or sys.executable, str(_LAUNCHER), *map(str, numbers)]
            if user is not None:
                # Without site: what is installed beside a model says nothing before the user is another one.
                command[1:1] = ["-S"]
                command.append(_encode(_Becoming.of(user, folders)).decode())
                environment = user.env | dict(environment)
            try:
                self._child = await Child.spawn(command, environment, (theirs, ring_fd))
            except BaseException:
                self._transport.abort()
                raise
        self._ending = self._loop.create_task(self._watch(), name=f"agent.worker.{self._child.pid}")

    async def _connect(self, passed_on: contextlib.ExitStack) -> tuple[int, int]:
        """Make the socket and the ring; the result is the descriptors of the worker's ends."""
        ours, theirs = socket.socketpair()
        passed_on.callback(theirs.close)
        try:
            ring_fd = Ring.create(DEPTH, self._slot_bytes)
            passed_on.callback(os.close, ring_fd)
            self._ring = Ring(ring_fd, DEPTH, self._slot_bytes, writable=True)
            await self._loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise
        return theirs.fileno(), ring_fd

    async def load(self, request: Mapping[str, Any], timeout_s: float) -> ModelMetadata:
        """Load the model and warm it up; ``timeout_s`` is how long it may give no sign of getting on.

        Raises ``ModelRefusedError``, ``BackendUnavailableError`` or ``WorkerLostError``.
        """
        self._transport.write(messages.encode(messages.LOAD, request))
        try:
            async with asyncio.timeout(timeout_s) as patience:
                self._on_busy = lambda: patience.reschedule(self._loop.time() + timeout_s)
                await asyncio.wait((self._loaded,))  # unlike a shield, it says nothing of an error that comes too late
            return self._loaded.result()
        except TimeoutError:
            raise WorkerLostError(
                f"the model was not loaded within {timeout_s:g} s", code="load-timeout", hint="raise load_timeout_s"
            ) from None
        finally:
            self._on_busy = None

    @property
    def free(self) -> int:
        """How many more requests it can hold."""
        depth = 1 if self._deadline.pace_s > _SLOW_S else DEPTH
        return 0 if self.lost or self._late else max(0, depth - len(self.requests))

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do, and can do something."""
        return not (self.lost or self._late or self.requests)

    @property
    def late(self) -> bool:
        """Whether it has taken more than half of its deadline for the request it works on."""
        return self._late

    def send(self, request: InferenceRequest[Any]) -> None:
        """Hand a request over; the worker must have a free place, and the input must fit in it."""
        self._next_id += 1
        content: dict[str, Any] = {"id": self._next_id}
        if isinstance(request.input, Picture):
            kind, parts = messages.INFER, [request.input.data]
            content["encoding"] = request.input.encoding
            if request.input.encoding == "rgb":
                content["size"] = (request.input.width, request.input.height)
            if request.paint:
                content["paint"] = True
            if request.snapshot is not None:
                content["snapshot"] = request.snapshot
        else:
            kind = messages.RUN
            parts, content["inputs"] = request.input.parts()
            content["outputs"] = request.input.outputs
        content["slot"] = self._slots[self._next_id] = self._ring.write(parts)
        content["length"] = sum(map(len, parts))
        request.model = self.metadata
        self.requests.append(request)
        if len(self.requests) == 1:
            self._begin(self._loop.time())
        self._transport.write(messages.encode(kind, _encode(content)))

    def kill(self) -> None:
        """End the process and its children now; ``on_lost`` follows, whoever else holds the socket."""
        self._child.kill()
        self._transport.abort()

    async def stop(self) -> None:
        """Have it finish what it holds, within its deadlines, and leave; what is left in ``requests`` is lost."""
        self._empty.clear()
        if self.requests and not self.lost:
            with contextlib.suppress(TimeoutError):
                count, deadline = len(self.requests), self._deadline
                usual_s = max(_FINISH_S, _LONGEST_FACTOR * count * deadline.pace_s)
                async with asyncio.timeout(min(usual_s, count * deadline.seconds)):
                    await self._empty.wait()
        if not self.lost:
            self._transport.write(messages.encode(messages.STOP))
        await self._exit()

    async def explain(self) -> str:
        """Why a lost worker is gone: the signal or status that ended it and its last words."""
        status = await self._exit()
        if not self.reason:
            self.reason = "; ".join([_cause(status), *self._child.last_words])
        return self.reason

    async def _exit(self) -> int:
        """See that the process is gone, and how it went."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                return await asyncio.shield(self._ending)
        except TimeoutError:
            self.kill()
        return await asyncio.shield(self._ending)

    async def _watch(self) -> int:
        """Wait for the end of the process; the socket ends with it, whoever else holds it."""
        status = await self._child.ended()
        self._transport.abort()
        return status

    # -- asyncio.Protocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is up."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 what a socket gives
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes came: handle the messages they complete."""
        try:
            for envelope in self._decoder.feed(data):
                self._handle(envelope)
        except (messages.ProtocolError, msgspec.DecodeError, LookupError, ValueError) as error:
            self.reason = f"the worker spoke nonsense: {error}"
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """The process is gone, or about to be."""
        del exc
        self.lost = True
        self._empty.set()
        if self._timer is not None:
            self._timer.cancel()
        if not self._loaded.done():
            self._refuse(WorkerLostError("the worker died while it loaded the model", code="worker-crashed"))
        self._ring.close()
        self._on_lost(self)

    def _handle(self, envelope: messages.Envelope) -> None:
        if envelope.kind == messages.ANSWER:
            message = _answer(envelope.text)
            self._settle(message.id, _outcome(message, envelope.body, self._painted(message)))
        elif envelope.kind == messages.OUTPUTS:
            outputs = _outputs(envelope.text)
            self._settle(outputs.id, outputs.answer(envelope.body))
        elif envelope.kind == messages.LOADED:
            self.metadata = msgspec.json.decode(envelope.text, type=ModelMetadata)
            self._deadline.begin(self.metadata.warm_up_ms / 1e3, self.metadata.longest_ms / 1e3)
            if not self._loaded.done():
                self._loaded.set_result(self.metadata)
        elif envelope.kind == messages.BUSY:
            if self._on_busy is not None:
                self._on_busy()
        elif envelope.kind == messages.ERROR:
            self._on_error(envelope.content)

    def _painted(self, message: AnswerMessage) -> bytes:
        """What the worker painted, out of the frame buffer before its place is another picture's."""
        if message.painting is None:
            return b""
        slot, length = self._slots[message.id], message.painting.length
        if not 0 <= length <= self._slot_bytes:
            raise ValueError(f"a painting has {length} bytes")
        return bytes(self._ring.read(slot, length))

    def _on_error(self, content: Mapping[str, Any]) -> None:
        identity, code, hint = content.get("id"), str(content["code"]), content.get("hint")
        family = (
            BackendUnavailableError if code.startswith(("backend-", "task-", "accelerator-")) else ModelRefusedError
        )
        error = family(str(content["message"]), code=code, hint=hint)
        if identity is not None:
            self._settle(int(identity), error)
        elif not self._loaded.done():
            self._refuse(error)

    def _refuse(self, error: VergeError) -> None:
        self._loaded.set_exception(error)
        # Whoever waited for it may have been cancelled: then nobody else looks.
        self._loaded.exception()

    def _settle(self, identity: int, outcome: Outcome) -> None:
        self._ring.release(self._slots.pop(identity))
        request = self.requests.popleft()
        now = self._loop.time()
        self._deadline.observe(now - request.began)
        if self.requests:
            self._begin(now)
        else:
            self._empty.set()
        if self._late:
            self._late = False
            self._on_pace(self)
        self._on_answer(request, outcome)

    # -- the deadline: one lazy timer a worker, not one a request ---------------------------------------

    def _begin(self, now: float) -> None:
        self.requests[0].began = now
        if self._timer is None and self._deadline.seconds < math.inf:
            self._timer = self._loop.call_at(now + self._deadline.seconds / 2, self._check_deadline)

    def _check_deadline(self) -> None:
        """Half a deadline has passed since some request began: is it still the one being worked on?"""
        self._timer = None
        if self.lost or not self.requests:
            return
        now, began = self._loop.time(), self.requests[0].began
        half = self._deadline.seconds / 2
        if now - began >= 2 * half:
            self.hung = True
            self.reason = f"no answer within {2 * half:.1f} s"
            self.kill()
        elif now - began >= half:
            if not self._late:
                self._late = True
                self._on_pace(self)
            self._timer = self._loop.call_at(began + 2 * half, self._check_deadline)
        else:
            self._timer = self._loop.call_at(began + half, self._check_deadline)


def _outcome(message: AnswerMessage, body: bytes, painted: bytes) -> Answer | VergeError:
    try:
        return message.answer(body, painted)
    except ModelRefusedError as error:
        return error


def _cause(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


class Deadline:
    """How long a worker may take for one answer before it counts as hung, in seconds.

    max(floor, 20 × its own p99); until there are answers enough for that, max(floor, 10 × its warm-up): a model that
    needs seconds for a picture is slow, and not hung.  Where other models look at what it detects, it is never less
    than twice what that may come to: a street is empty for hours, and then it is full.  With an infinite floor there
    is no deadline.
    """

    def __init__(self, floor_s: float = 2.0) -> None:
        self._floor_s = floor_s
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._since = 0
        self.seconds = floor_s
        self.pace_s = 0.0
        """How long the last answer took."""
        self._longest_s = 0.0

    def begin(self, warm_up_s: float, longest_s: float = 0.0) -> None:
        """Take in how long the warm-up took, and how long an answer may take by that."""
        self.pace_s = warm_up_s
        self._longest_s = _LONGEST_FACTOR * longest_s if longest_s > warm_up_s else 0.0
        self.seconds = max(self._floor_s, _WARM_UP_FACTOR * warm_up_s, self._longest_s)

    def observe(self, seconds: float) -> None:
        """Take in one answer's duration; the deadline is worked out anew now and then."""
        self.pace_s = seconds
        self._recent.append(seconds)
        self._since += 1
        if self._since >= _REFRESH:
            self._since = 0
            ordered = sorted(self._recent)
            p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
            self.seconds = max(self._floor_s, _FACTOR * p99, self._longest_s)
