"""A child process within limits: its own session, its end with ours, and the last of what it writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Completed", "environment", "run"]

_KEPT_BYTES = 64 * 1024
_CHUNK = 4096
_FOREIGN = ("VERGE_", "PYTHON", "PIP_", "VIRTUAL_ENV", "CONDA_")


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended, and the last of both its outputs."""

    status: int
    text: str


async def run(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    on_line: Callable[[str], None] = lambda _line: None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run to the end; a cancellation (a time limit is one) kills the command and its children.

    Raises ``OSError`` where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command, env=dict(env), pass_fds=pass_fds, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        umask=0o022,  # the packages are for the workers to read, whoever they run as
    )  # fmt: skip
    try:
        text = await _read(process, on_line)
        return Completed(await process.wait(), text)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _read(process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> str:
    assert process.stdout is not None  # noqa: S101 it is a pipe
    kept, line = bytearray(), b""
    while chunk := await process.stdout.read(_CHUNK):
        kept += chunk
        del kept[:-_KEPT_BYTES]
        *lines, line = (line + chunk).split(b"\n")
        line = line[-_CHUNK:]
        for whole in lines:
            on_line(whole.decode(errors="replace").strip())
    return kept.decode(errors="replace")


def environment(given: Mapping[str, str], kept: Sequence[str] = (), **added: str) -> dict[str, str]:
    """An environment without the agent's settings and without what would bend a Python, but for prefixes ``kept``."""
    foreign = tuple(prefix for prefix in _FOREIGN if prefix not in kept)
    return {key: value for key, value in given.items() if not key.startswith(foreign)} | added
