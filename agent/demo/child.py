"""A program that the demo starts and ends.

Each child has a session of its own, so that Ctrl-C reaches the demo alone and it can end its children in
order.  The kernel ends a child whose demo was killed (``PR_SET_PDEATHSIG``): nothing is left behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from agent.errors import UnreachableError

__all__ = ["ChildProgram"]

_BOUND = """
import ctypes, os, signal, sys

PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Bind this process to its parent, then become the program: 20 ms, and no code between fork and exec."""
_ROOT = Path(__file__).parents[2]
"""Where children start, so that ``python -m agent`` is this very package and no folder of the user's."""
_TAIL_LINES = 8


class ChildProgram:
    """One child process: entering starts it, leaving ends it within ``deadline_s``.

    What it writes goes to ``log``; what it writes to standard output can be read where it is ``piped``.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        piped: bool = False,
        deadline_s: float = 5.0,
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._log = log
        self._environment = os.environ if environment is None else environment
        self._piped = piped
        self._deadline_s = deadline_s

    async def __aenter__(self) -> Self:
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid())),
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self._piped else log,
                stderr=log,
                env=self._environment,
                cwd=_ROOT,
                start_new_session=True,
            )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End the process, politely first, and wait until it is gone."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        await self.process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.returncode is None

    async def ended(self) -> None:
        """Wait until it is gone, whyever."""
        await self.process.wait()

    def end_error(self) -> UnreachableError:
        """The error of a child that ended unasked: how it ended, and its last lines."""
        status = self.process.returncode or 0
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return UnreachableError(
            f"the {self.name} ended ({how})\n{self.last_lines()}".rstrip(), code=f"{self.name}-ended"
        )

    def last_lines(self) -> str:
        """The end of the log, indented."""
        lines = self._log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"  | {line}" for line in lines)
