"""This device as tuning sees it: its processor, and what in a model's interpreter can run the model.

The interpreter is asked in child processes, one a backend, since an import may crash.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import BackendUnavailableError, ModelRefusedError, VergeError, WorkerLostError
from agent.inference.manifest import ModelSpec
from agent.inference.placement import ANY
from agent.inference.tuning.values import Ability, Machine
from agent.results.result import Reason

__all__ = ["abilities", "cpu_name", "free_bytes", "machine"]

_HERE = Path(__file__).parent
_PROBE = _HERE / "probe.py"
_RUNTIME = _HERE.parent / "runtime"
_TIMEOUT_S = 30.0
"""TensorFlow on a small board takes half of that to be imported."""


async def machine(spec: ModelSpec) -> Machine:
    """The facts that figures of this model depend on; raises ``VergeError`` for an interpreter that cannot be run."""
    answer = await _ask(spec, "packages")
    cpuinfo = await asyncio.to_thread(_text, Path("/proc/cpuinfo"))
    return Machine(
        cpu=cpu_name(cpuinfo),
        architecture=platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        python=answer["python"],
        packages=dict(sorted(answer["packages"].items())) | await asyncio.to_thread(_own_code, spec),
    )


async def abilities(spec: ModelSpec) -> tuple[Ability, ...]:
    """The backends that read the model's file, in the order in which ``auto`` would try them.

    Raises ``VergeError`` for an interpreter that cannot be run.
    """
    named = spec.manifest.backend
    names = [named] if named != ANY else (await _ask(spec, "backends"))["backends"]
    abilities = await asyncio.gather(*(_ability(spec, name) for name in names))
    return tuple(ability for ability in abilities if ability is not None)


def cpu_name(cpuinfo: str) -> str:
    """The processor's name from the text of ``/proc/cpuinfo``; a board's where the processor has none."""
    facts = {
        key.strip().lower(): value.strip() for key, value in re.findall(r"^([^:\n]+):(.*)$", cpuinfo, re.MULTILINE)
    }
    return facts.get("model name") or facts.get("model") or facts.get("hardware") or "unknown"


def free_bytes() -> int:
    """The memory that programs can still have; 0 where the system does not say."""
    line = re.search(r"^MemAvailable:\s+(\d+) kB", _text(Path("/proc/meminfo")), re.MULTILINE)
    return int(line[1]) << 10 if line else 0


async def _ability(spec: ModelSpec, name: str) -> Ability | None:
    options = msgspec.json.encode(spec.manifest.backend_options).decode()
    # A backend that is named runs whatever file it is given.
    file = "" if spec.manifest.backend == name else spec.manifest.file
    try:
        answer = await _ask(spec, "backend", name, file, options, *spec.run.python_path)
    except VergeError as error:
        return Ability(name, problem=Reason.of(error))
    return Ability(name, tuple(answer["accelerators"])) if answer["reads"] else None


async def _ask(spec: ModelSpec, *arguments: str) -> dict[str, Any]:
    """The probe's answer.

    Raises ``BackendUnavailableError`` for its refusal, ``WorkerLostError`` for its crash, ``ModelRefusedError``
    where it does not run.
    """
    interpreter = spec.run.interpreter or sys.executable
    status, output, errors = await _run([interpreter, str(_PROBE), str(_RUNTIME), *arguments], spec.run.environment)
    if status or not output:
        cause = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise WorkerLostError(": ".join([f"the import crashed ({cause})", *last]), code="probe-crashed")
    answer: dict[str, Any] = msgspec.json.decode(output)
    if problem := answer.get("error"):
        raise BackendUnavailableError(problem["message"], hint=problem["hint"], code=problem["code"])
    return answer


async def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """A command's status, standard output and standard error; it is killed when the caller is cancelled."""
    try:
        child = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **environment}, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:
        hint = "check interpreter = … of the model"
        raise ModelRefusedError(
            f"cannot run {command[0]}: {error.strerror}", code="interpreter-missing", hint=hint
        ) from error
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            output, errors = await child.communicate()
    except TimeoutError:
        raise WorkerLostError(f"no answer within {_TIMEOUT_S:g} s", code="probe-hung") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None  # noqa: S101 it has ended
    return child.returncode, output, errors


def _own_code(spec: ModelSpec) -> dict[str, str]:
    """A backend that is a file beside the model has no version but its contents."""
    path = Path(spec.manifest.backend.rpartition(":")[0])
    if path.suffix != ".py" or not path.is_file():
        return {}
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]}


def _text(path: Path) -> str:
    """The file's text, empty where there is none: not every machine has every file."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
