"""Environments that were here before, and the agent's own Python: looked at and proved, never changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from agent.inference.environments import survey
from agent.inference.environments.errors import CandidateFailedError
from agent.inference.environments.proof import prove
from agent.inference.environments.spec import Environment

__all__ = ["against", "look", "places"]

_GREENGRASS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "litert": ("greengrass_ml_tflite_venv", "greengrass_ml_tflite_conda"),
    "dlr": ("greengrass_ml_dlr_venv", "greengrass_ml_dlr_conda"),
})  # fmt: skip
_ANY_OF: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "litert": ("ai_edge_litert", "tflite_runtime", "tensorflow"),
    "onnx": ("onnxruntime",),
    "opencv": (),
    "dlr": ("dlr",),
})  # fmt: skip
"""The modules of which one runs the family's models."""
_ALWAYS = ("numpy", "cv2")


def places(root: Path, family: str) -> Iterator[Path]:
    """The interpreters of environments that may be there: Greengrass's installer's, or ``root`` itself as one."""
    for name in _GREENGRASS.get(family, ()):
        # Miniconda lies in a folder of the same name as the environment in it.
        yield root / name / "envs" / name / "bin" / "python3"
        yield root / name / "bin" / "python3"
    yield root / "bin" / "python3"


async def look(family: str, pins: Sequence[Requirement], python: Path | None = None, why: str = "") -> Environment:
    """Prove an interpreter, None being the agent's own; raises ``CandidateFailedError`` with what is against it."""
    own = python is None
    path = sys.executable if python is None else str(python)
    answer = await survey.ask(path, (*_ALWAYS, *_ANY_OF[family]))
    known = survey.interpreter(answer, path)
    if isinstance(answer, str) or isinstance(known, str):
        raise CandidateFailedError(str(known))
    modules = set(answer["modules"])
    missing = [name for name in _ALWAYS if name not in modules]
    if _ANY_OF[family] and not modules & set(_ANY_OF[family]):
        missing.append(" or ".join(_ANY_OF[family]))
    if missing:
        raise CandidateFailedError(f"it has no {', no '.join(missing)}")
    packages: dict[str, str] = answer["packages"]
    if unmet := against(packages, pins):
        raise CandidateFailedError(unmet)
    backend = await prove(family, path)
    words = f"{backend} on Python {known.release} at {path}"
    description = f"THE AGENT'S OWN PYTHON serves: {words}; {why}" if own else f"{words}; {why}"
    return Environment(family, path, MappingProxyType(packages), description.rstrip("; "), own=own)


def against(packages: Mapping[str, str], pins: Sequence[Requirement]) -> str:
    """The first of the user's requirements that installed packages do not meet, as a sentence; empty if they do."""
    there = {canonicalize_name(name): version for name, version in packages.items()}
    for pin in pins:
        version = there.get(canonicalize_name(pin.name))
        if version is None:
            return f"{pin} is asked and not installed"
        if not pin.specifier.contains(version, prereleases=True):
            return f"{pin} is asked and {version} is installed"
    return ""
