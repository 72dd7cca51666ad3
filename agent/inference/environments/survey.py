"""The host's facts: every interpreter that answers, the processor's flags, the room on the disk.

Interpreters are looked for under the agent, on the PATH and where version managers put theirs.  Each is run and
asked; one that does not answer (a version manager's shim without a version behind it) is passed over.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.inference.environments.command import environment, run
from agent.inference.environments.host import NEWEST, OLDEST, Host, Interpreter

__all__ = ["ask", "free_bytes", "host", "interpreter", "is_own"]

_QUERY = Path(__file__).with_name("query.py")
_ANSWER_S = 20.0
_AT_ONCE = 2
_MINORS = range(OLDEST[1], NEWEST[1] + 1)
_NAMES = ("python3", *(f"python3.{minor}" for minor in reversed(_MINORS)))
_FOLDERS = (
    ("PYENV_ROOT", ".pyenv", "versions/*/bin/python3"),
    ("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python", "*/bin/python3"),
)
"""Where version managers keep theirs: the variable that names the folder, where it is else, the interpreters in it."""
_OWN = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
"""The agent's own, without the virtual environment around it."""
_BITS_32 = {"x86_64": "i686", "aarch64": "armv7l", "armv8l": "armv7l"}
"""What a 32-bit interpreter runs as on a 64-bit kernel."""


async def host(root: Path, wanted: str = "") -> Host:
    """The machine, with environments to lie in ``root``; ``wanted`` names the one interpreter to look at."""
    paths = [shutil.which(wanted) or wanted] if wanted else list(_paths(os.environ, _home()))
    limit = asyncio.Semaphore(_AT_ONCE)

    async def look(path: str) -> Interpreter | str:
        async with limit:
            return interpreter(await ask(path), path)

    answers = await asyncio.gather(*map(look, paths))
    known = {answer.path: answer for answer in reversed(answers) if isinstance(answer, Interpreter)}
    passed_over = sorted({answer for answer in answers if isinstance(answer, str)})
    ordered = sorted(known.values(), key=lambda python: (python.own, python.version), reverse=True)
    flags = _flags(Path("/proc/cpuinfo"))
    return Host(tuple(ordered), flags, free_bytes(root), tuple(passed_over))


async def ask(path: str, modules: Iterable[str] = ()) -> Mapping[str, Any] | str:
    """What an interpreter says of itself, and which of the modules it has; a sentence where it says nothing."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            result = await run([path, str(_QUERY), *modules], environment(os.environ, PYTHONDONTWRITEBYTECODE="1"))
    except TimeoutError:  # which is an OSError too
        return f"{path} did not answer within {_ANSWER_S:g} s"
    except OSError as error:
        return f"{path} cannot be run: {error.strerror}"
    lines = result.text.strip().splitlines() or ["it printed nothing"]
    if result.status:
        return f"{path} ended with status {result.status}: {lines[0]}"
    try:
        answer = json.loads(lines[-1])
    except ValueError:
        return f"{path} spoke nonsense: {lines[-1][:80]}"
    return answer if isinstance(answer, dict) else f"{path} spoke nonsense: {lines[-1][:80]}"


def interpreter(answer: Mapping[str, Any] | str, path: str) -> Interpreter | str:
    """An answer as a value; a sentence for an interpreter that no worker runs on."""
    if isinstance(answer, str):
        return answer
    major, minor, micro = answer["version"]
    if answer["implementation"] != "CPython" or not OLDEST <= (major, minor) <= NEWEST:
        return f"{path} is {answer['implementation']} {major}.{minor}.{micro}, workers run on CPython 3.9 to 3.14"
    machine = answer["machine"]
    libc, libc_version = _libc(answer["libc"])
    return Interpreter(
        path=answer["path"],
        version=(major, minor, micro),
        machine=_BITS_32.get(machine, machine) if answer["bits"] == 32 else machine,  # noqa: PLR2004 bits
        libc=libc,
        libc_version=libc_version,
        free_threaded=answer["free_threaded"],
        venv=answer["venv"],
        ensurepip=answer["ensurepip"],
        own=answer["path"] == _OWN,
    )


def is_own(wanted: str) -> bool:
    """Whether the interpreter that was asked for is the agent's own, as it is where none was."""
    return not wanted or os.path.realpath(shutil.which(wanted) or wanted) == _OWN


def free_bytes(root: Path) -> int:
    """What may still be written where ``root`` is or will be."""
    place = next(place for place in (root, *root.parents) if place.exists())
    facts = os.statvfs(place)
    return facts.f_bavail * facts.f_frsize


def _paths(variables: Mapping[str, str], home: Path) -> Iterator[str]:
    yield sys.executable
    for folder in variables.get("PATH", os.defpath).split(os.pathsep):
        yield from (str(path) for name in _NAMES if (path := Path(folder) / name).is_file())
    for variable, place, pattern in _FOLDERS:
        yield from map(str, sorted(Path(variables.get(variable) or home / place).glob(pattern)))


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a service's user may have none
        return Path("/")


def _libc(name: str | None) -> tuple[str, tuple[int, int]]:
    version = re.match(r"glibc (\d+)\.(\d+)", name or "")
    if version:
        return "glibc", (int(version[1]), int(version[2]))
    musl = next(Path("/lib").glob("ld-musl-*.so.1"), None)
    # Every musl since 1.2 runs wheels of 1.2 and before; its version is known only by running its loader.
    return ("musl", (1, 2)) if musl else ("", (0, 0))


def _flags(cpuinfo: Path) -> frozenset[str]:
    try:
        text = cpuinfo.read_text()
    except OSError:
        return frozenset()
    return frozenset(word for line in re.findall(r"(?mi)^(?:flags|features)\s*:(.*)$", text) for word in line.split())
