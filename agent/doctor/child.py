"""Ask ``probe`` in a child process; a child that crashes or hangs is an error like any other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import BackendUnavailableError, VergeError, WorkerLostError

__all__ = ["ask"]

_ROOT = Path(__file__).parent.parent.parent
_TIMEOUT_S = 60.0

_CRASHES = {
    signal.SIGILL: "its wheel uses instructions that this CPU does not have: install a build for it",
    signal.SIGKILL: "the system ended it, most likely for want of memory",
    signal.SIGBUS: "a file it maps is cut short, or /dev/shm is full",
}
_REINSTALL = "install it again: pip install --force-reinstall …, in a version that fits this system"


async def ask(*arguments: str) -> dict[str, Any]:
    """The probe's answer.

    Raises ``BackendUnavailableError`` for its refusal, ``WorkerLostError`` for its crash.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent.doctor.probe", *arguments,
        env=_environment(), start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, words = await child.communicate()
    except TimeoutError:
        raise WorkerLostError(f"no answer within {_TIMEOUT_S:g} s", hint=_REINSTALL, code="probe-hung") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode or not output:
        raise _crashed(child.returncode or 0, words)
    answer: dict[str, Any] = msgspec.json.decode(output)
    if problem := answer.get("error"):
        raise BackendUnavailableError(problem["message"], hint=problem["hint"], code=problem["code"])
    return answer


def _crashed(status: int, words: bytes) -> VergeError:
    cause = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    last = words.decode(errors="replace").strip().splitlines()[-1:]
    hint = next((hint for number, hint in _CRASHES.items() if number == -status), _REINSTALL)
    return WorkerLostError(": ".join([f"the import crashed ({cause})", *last]), hint=hint, code="probe-crashed")


def _environment() -> dict[str, str]:
    """The agent's own environment, with the agent importable wherever it was started from."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
    return os.environ | {"PYTHONPATH": path}
