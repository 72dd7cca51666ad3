"""A worker: a plain program with a synchronous loop that holds one model and answers pictures.

It reads messages from an inherited socket, pictures and tensors from an inherited ring, and writes answers to
the socket.  There is no ping: a worker is alive as long as it answers each request within its deadline.  The
worker ends when the core closes the socket or dies.  Whatever a model prints goes to standard error, which
the core keeps the last lines of.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any, Iterator, Mapping, Optional

from agent.inference.runtime import custom, messages, user
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.ring import Ring

__all__ = ["main"]

_RECEIVE_BYTES = 256 * 1024
_PR_SET_PDEATHSIG = 1
_OOM_SCORE = "700"


def main(arguments: list[str]) -> int:
    """Serve the socket and ring whose descriptors, slot count and slot size are given; return the exit status."""
    socket_fd, ring_fd, slots, slot_bytes = (int(argument) for argument in arguments[:4])
    _settle()
    ring = Ring(ring_fd, slots, slot_bytes, writable=True)
    with socket.socket(fileno=socket_fd) as link:
        _Worker(link, ring).serve()
    return 0


class _Worker:
    def __init__(self, link: socket.socket, ring: Ring) -> None:
        self.link = link
        self.ring = ring
        self.session: Any = None
        self._said_at = 0.0

    def serve(self) -> None:
        for envelope in self._messages():
            if envelope.kind == messages.STOP:
                return
            self.link.sendall(self._reply(envelope))

    def _messages(self) -> Iterator[messages.Envelope]:
        decoder = messages.MessageDecoder()
        while True:
            data = self.link.recv(_RECEIVE_BYTES)
            if not data:
                return
            yield from decoder.feed(data)

    def _reply(self, envelope: messages.Envelope) -> bytes:
        content = envelope.content
        try:
            if envelope.kind == messages.INFER:
                return self._infer(content)
            if envelope.kind == messages.RUN:
                return self._run(content)
            return self._load(content)
        except ModelError as error:
            return _error(content.get("id"), error.code, error.message, error.hint)
        except MemoryError:
            return _error(content.get("id"), "out-of-memory", "the worker ran out of memory", "raise memory_mb")
        except (Exception, SystemExit) as error:  # noqa: BLE001 a user's code may raise anything; it crosses as text
            traceback.print_exc()
            refused = custom.refusal(error)
            return _error(content.get("id"), refused.code, refused.message, refused.hint)

    def _load(self, content: Mapping[str, Any]) -> bytes:
        # Imported here: what NumPy, OpenCV or a backend print or break at import is then an answer too.
        from agent.inference.runtime.rawsession import RAW, RawSession  # noqa: PLC0415
        from agent.inference.runtime.session import Session  # noqa: PLC0415

        content = user.reachable(content)
        for path in reversed(content.get("python_path") or ()):
            sys.path.insert(0, path)
        self._busy()
        model = content["model"]
        self.session = (RawSession if model.get("task") == RAW else Session)(model, self._busy)
        _limit_memory(content.get("memory_mb"))
        return messages.encode(messages.LOADED, messages.strict(self.session.describe()))

    def _busy(self) -> None:
        """Say that loading gets on, every second at most."""
        now = time.monotonic()
        if now - self._said_at >= 1:
            self._said_at = now
            self.link.sendall(messages.encode(messages.BUSY, {}))

    def _infer(self, content: Mapping[str, Any]) -> bytes:
        data = self.ring.read(content["slot"], content["length"])
        # What is painted takes the place of the picture, which is decoded by then.
        canvas = self.ring.read(content["slot"], self.ring.slot_bytes) if content.get("paint") else None
        answer = self._loaded().infer(
            data, content["encoding"], content.get("snapshot"), size=content.get("size"), canvas=canvas
        )
        return bytes(answer.message(content["id"]))

    def _run(self, content: Mapping[str, Any]) -> bytes:
        data = self.ring.read(content["slot"], content["length"])
        outputs = self._loaded().run(content["inputs"], data, content["outputs"])
        return bytes(outputs.message(content["id"]))

    def _loaded(self) -> Any:
        if self.session is None:
            raise ModelError("no-model", "no model is loaded in this worker", None)
        return self.session


def _error(identity: Any, code: str, message: str, hint: Optional[str]) -> bytes:
    shown = {"message": user.original(message), "hint": hint and user.original(hint)}
    return messages.encode(messages.ERROR, messages.strict({"id": identity, "code": code, **shown}))


def _settle() -> None:
    """Be a good child: die with the core, leave signals of the terminal to it, print to standard error only."""
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _volunteer()


def _volunteer() -> None:
    """When memory runs out, let the kernel take a worker and not the agent."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(_OOM_SCORE)
    except OSError as error:
        print(f"the kernel's out-of-memory score stays as it is: {error}", file=sys.stderr)


def _limit_memory(megabytes: Optional[int]) -> None:
    """Allow that much more than the loaded model takes now."""
    if not megabytes:
        return
    import resource  # noqa: PLC0415

    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    limit = mapped + megabytes * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
