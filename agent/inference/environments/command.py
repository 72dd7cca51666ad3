"""A child process within limits: its own session, its end with ours, and the last of what it says."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Said", "environment", "run"]

_KEPT_BYTES = 64 * 1024
_CHUNK = 4096
_FOREIGN = ("VERGE_", "PYTHON", "PIP_", "VIRTUAL_ENV", "CONDA_")


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and the last of both its outputs."""

    status: int
    text: str


async def run(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    hear: Callable[[str], None] = lambda _line: None,
    pass_fds: Sequence[int] = (),
) -> Said:
    """Run to the end; a cancellation (a time limit is one) kills the command and its children.

    Raises ``OSError`` where it cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command, env=dict(env), pass_fds=pass_fds, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        text = await _listen(process, hear)
        return Said(await process.wait(), text)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _listen(process: asyncio.subprocess.Process, hear: Callable[[str], None]) -> str:
    assert process.stdout is not None  # noqa: S101 it is a pipe
    kept, line = bytearray(), b""
    while chunk := await process.stdout.read(_CHUNK):
        kept += chunk
        del kept[:-_KEPT_BYTES]
        *lines, line = (line + chunk).split(b"\n")
        line = line[-_CHUNK:]
        for each in lines:
            hear(each.decode(errors="replace").strip())
    return kept.decode(errors="replace")


def environment(given: Mapping[str, str], kept: Sequence[str] = (), **added: str) -> dict[str, str]:
    """An environment without the agent's settings and without what would bend a Python, but for prefixes ``kept``."""
    foreign = tuple(prefix for prefix in _FOREIGN if prefix not in kept)
    return {key: value for key, value in given.items() if not key.startswith(foreign)} | added
