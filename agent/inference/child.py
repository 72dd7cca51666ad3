"""The process of a worker: spawned in a session of its own, so that its children end with it.

A protocol rather than ``asyncio.subprocess.Process``, whose ``wait`` returns only when the pipes are closed too:
a child that outlives the worker holds them open.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Self

from agent.errors import ModelRefusedError, WorkerLostError

__all__ = ["Child", "shortage"]

log = logging.getLogger(__name__)

_TAIL_BYTES = 4096
_LAST_WORDS_S = 0.5
_SHORTAGES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


class Child(asyncio.SubprocessProtocol):
    """A running process and the end of what it writes to standard error."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._exited = asyncio.Event()
        self._silent = asyncio.Event()

    @classmethod
    async def spawn(cls, command: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]) -> Self:
        """Run a command that inherits the descriptors.

        Raises ``ModelRefusedError`` when it cannot be run, ``WorkerLostError`` when the system has no means now.
        """
        try:
            _, child = await asyncio.get_running_loop().subprocess_exec(
                cls, *command, pass_fds=descriptors, env=_environment(environment), start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            if error.errno in _SHORTAGES:
                raise shortage(error) from error
            raise ModelRefusedError(
                f"cannot run {command[0]}: {error.strerror}",
                code="interpreter-missing",
                hint="check interpreter = … of the model",
            ) from error
        return child

    @property
    def pid(self) -> int:
        """The process and its session."""
        return self._transport.get_pid()

    @property
    def last_words(self) -> list[str]:
        """The last lines it wrote to standard error."""
        return self._tail.decode(errors="replace").strip().splitlines()[-3:]

    def kill(self) -> None:
        """End the process, unless it has ended, and its children."""
        if not self._exited.is_set():
            self._kill_session()

    async def ended(self) -> int:
        """Wait for its end and clear up after it; the result is its status, negative for a signal."""
        await self._exited.wait()
        self._kill_session()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._silent.wait()
        self._transport.close()
        status = self._transport.get_returncode()
        assert status is not None  # noqa: S101 it has exited
        return status

    def _kill_session(self) -> None:
        # Not the transport's kill: it polls first, and so may take the status from under asyncio's own waiting.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    # -- asyncio.SubprocessProtocol ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process runs."""
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101 what a process gives
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Keep the last words; a worker that prints for ever fills nothing."""
        del fd
        self._tail += data
        del self._tail[:-_TAIL_BYTES]
        log.debug("worker %d: %s", self.pid, data.decode(errors="replace").rstrip())

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Standard error is closed."""
        del fd, exc
        self._silent.set()

    def process_exited(self) -> None:
        """The process has ended; its children may not have."""
        self._exited.set()


def shortage(error: OSError) -> WorkerLostError:
    """What a system that is out of memory, processes or descriptors comes to: try again later."""
    return WorkerLostError(
        f"the worker could not be started: {error.strerror}",
        code="worker-start",
        hint="free memory or raise the limits on open files and processes",
    )


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The agent's environment without its own settings: a model has no business with passwords."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VERGE_")}
    return kept | {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"} | dict(extra)
