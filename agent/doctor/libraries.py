"""NumPy, OpenCV and the backends: imported in child processes, all at once, reported in their order."""

from __future__ import annotations

import asyncio

from agent.doctor import child
from agent.doctor.finding import Finding, FindingStatus
from agent.errors import BackendUnavailableError, VergeError

__all__ = ["findings"]

_NEEDED = {
    "numpy": "pip install numpy",
    "cv2": "pip install opencv-python-headless",
}
_NAMES = {"numpy": "numpy", "cv2": "opencv"}


async def findings() -> list[Finding]:
    """The libraries of every worker, then the backends: one that is missing is no failure, one that crashes is."""
    needed = asyncio.gather(*(_module(name) for name in _NEEDED))
    backends = asyncio.gather(*(_backend(name) for name in await _names()))
    return [*await needed, *await backends]


async def _names() -> list[str]:
    try:
        names: list[str] = (await child.ask("backends"))["backends"]
    except VergeError:
        return []  # the backends need NumPy: its own finding says why it is not there
    return names


async def _module(name: str) -> Finding:
    check = _NAMES[name]
    try:
        return Finding.ok(check, (await child.ask("module", name))["version"])
    except BackendUnavailableError as error:
        return Finding.fail(check, f"cannot be imported: {error.message}", _NEEDED[name])
    except VergeError as error:
        return Finding.of(check, error)


async def _backend(name: str) -> Finding:
    check = f"backend {name}"
    try:
        return Finding.ok(check, (await child.ask("backend", name))["version"])
    except BackendUnavailableError as error:
        missing = error.code == "backend-unavailable"
        return Finding.of(check, error, FindingStatus.WARN if missing else FindingStatus.FAIL)
    except VergeError as error:
        return Finding.of(check, error)
