"""An environment from a candidate: ``python -m venv`` without pip, and the agent's own pip inside it.

pip is lent, not installed: a folder with nothing but a link to the agent's copy is put on the path of the
environment's Python, which then runs ``-m pip`` for itself.  So a Debian without ``ensurepip`` will do, the
environment stays ten megabytes smaller, and pip's process is our own child, which holds the lock for as long as it
writes.  pip because it is what the wheels are tested with; where the agent has none, or one that is too new for an
old Python, the interpreter's own is used.  Only wheels are taken: nothing of theirs runs when they are installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from packaging.specifiers import SpecifierSet

from agent.files import remove_tree
from agent.inference.environments.choose import Candidate, WheelSource
from agent.inference.environments.command import environment, run
from agent.inference.environments.errors import CandidateFailedError, IndexUnreachableError
from agent.inference.environments.host import Interpreter

__all__ = ["Built", "build"]

_LONGEST_REASON = 300
_VENV_S = 120.0
_OPTIONS = (
    "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--no-warn-script-location",
    "--root-user-action", "ignore", "--progress-bar", "off", "--timeout", "15", "--retries", "2",
)  # fmt: skip
_UNREACHABLE = re.compile(
    r"after connection broken by|Could not fetch URL|Max retries exceeded|ReadTimeoutError|ConnectTimeoutError"
    r"|NameResolutionError|ProxyError|IncompleteRead|Connection reset by peer"
)
_WORTH_TELLING = ("Downloading ", "Installing collected packages")


@dataclass(frozen=True, slots=True)
class Built:
    """What was installed."""

    python: Path
    packages: Mapping[str, str]
    """Exact versions."""
    wheels: Mapping[str, str]
    """Per package, the SHA-256 of its wheel."""


async def build(
    candidate: Candidate, folder: Path, *, wheelhouse: Sequence[Path], lock: int, report: Callable[[str], None]
) -> Built:
    """Make the environment in ``folder``, which must not exist; ``wheelhouse`` are the folders that hold wheels.

    ``lock`` is a descriptor that the children keep open while they write.  Raises ``CandidateFailedError`` with
    pip's reason, ``IndexUnreachableError`` where the index was to be asked and could not be.
    """
    lent = _lendable(candidate.interpreter)
    await _make(candidate.interpreter, folder, pip=lent is None, lock=lock)
    work = folder / ".building"
    work.mkdir()
    installation = work / "report.json"
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", *_OPTIONS, "--report", str(installation)]
    command += _sources(candidate.source, wheelhouse, folder.parent / ".cache")
    env = _environment(candidate.source)
    if lent is not None:
        (work / "pip").symlink_to(lent)
        env["PYTHONPATH"] = str(work)

    def on_line(line: str) -> None:
        if line.startswith(_WORTH_TELLING):
            report(line)

    result = await run([*command, *candidate.requirements], env, on_line=on_line, pass_fds=(lock,))
    if result.status:
        reason = _reason(result.text, result.status)
        if candidate.source is WheelSource.INDEX and _UNREACHABLE.search(result.text):
            raise IndexUnreachableError(f"the package index cannot be reached; pip says: {reason}")
        raise CandidateFailedError(f"pip says: {reason}")
    packages, wheels = _installed(installation)
    await asyncio.to_thread(remove_tree, work)
    return Built(folder / "bin" / "python", packages, wheels)


async def _make(interpreter: Interpreter, folder: Path, *, pip: bool, lock: int) -> None:
    if pip and not interpreter.ensurepip:
        own = _own_pip()
        mine = f"the agent's pip {own[0]} is not for it" if own else "the agent has no pip"
        raise CandidateFailedError(f"{mine}, and it has none of its own (Debian: install python3-venv)")
    command = [interpreter.path, "-m", "venv", *([] if pip else ["--without-pip"]), str(folder)]
    try:
        async with asyncio.timeout(_VENV_S):
            result = await run(command, environment(os.environ), pass_fds=(lock,))
    except TimeoutError:  # which is an OSError too
        raise CandidateFailedError(f"it did not make a virtual environment within {_VENV_S:g} s") from None
    except OSError as error:
        raise CandidateFailedError(f"{interpreter.path} cannot be run: {error.strerror}") from error
    if result.status:
        raise CandidateFailedError(f"it cannot make virtual environments: {_reason(result.text, result.status)}")


def _lendable(interpreter: Interpreter) -> Path | None:
    """The folder of the agent's pip, if that runs on the interpreter."""
    pip = _own_pip()
    spec = util.find_spec("pip")
    if pip is None or spec is None or not spec.submodule_search_locations:
        return None
    if not pip[1].contains(".".join(map(str, interpreter.version))):
        return None
    return Path(spec.submodule_search_locations[0])


def _own_pip() -> tuple[str, SpecifierSet] | None:
    """The version of the agent's pip and the Pythons it runs on."""
    try:
        facts = metadata.metadata("pip").json
    except metadata.PackageNotFoundError:
        return None
    return str(facts["version"]), SpecifierSet(str(facts.get("requires_python", "")))


def _sources(source: WheelSource, wheelhouse: Sequence[Path], cache: Path) -> list[str]:
    links = [part for place in wheelhouse for part in ("--find-links", str(place))]
    if source is WheelSource.WHEELHOUSE:
        return ["--no-index", "--no-cache-dir", *links]
    return ["--cache-dir", str(cache), *links]


def _environment(source: WheelSource) -> dict[str, str]:
    """For the index, with pip's own settings: address, proxy, certificates; else with none of them."""
    if source is WheelSource.INDEX:
        return environment(os.environ, kept=("PIP_",))
    return environment(os.environ, PIP_CONFIG_FILE=os.devnull)


def _installed(report: Path) -> tuple[dict[str, str], dict[str, str]]:
    packages, wheels = {}, {}
    for entry in json.loads(report.read_bytes())["install"]:
        name = entry["metadata"]["name"]
        packages[name] = entry["metadata"]["version"]
        wheels[name] = entry.get("download_info", {}).get("archive_info", {}).get("hashes", {}).get("sha256", "")
    return packages, wheels


def _reason(text: str, status: int) -> str:
    """What pip says went wrong: its first line of error, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors[:1] or lines[-1:] or [f"status {status}, and no output"])[0]
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + " …"
