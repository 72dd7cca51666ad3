"""What is asked for, and what is given back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Environment", "RuntimeSpec"]


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """What a runtime component asks for."""

    component: str
    family: str
    """A key of ``combinations.FAMILIES``: litert, onnx, opencv or dlr."""
    root: Path
    """``MLRootPath``, absolute: environments lie in it."""
    install: bool = True
    """``UseInstaller``: whether anything may be installed."""
    packages: tuple[str, ...] = ()
    """The user's own requirements, as pip writes them: ``numpy==1.26.4``."""
    wheelhouse: Path | None = None
    """A folder with wheels in it, at any depth."""
    index: bool = True
    """Whether the package index may be asked; pip's own configuration says which."""
    interpreter: str = ""
    """The Python to build on, a path or a name on the PATH; empty chooses."""


@dataclass(frozen=True, slots=True)
class Environment:
    """An interpreter whose packages were proved to run the family's models."""

    family: str
    python: str
    """The path of the interpreter: what a model's ``interpreter`` names."""
    packages: Mapping[str, str]
    """What is installed there, with exact versions."""
    description: str
    """A sentence for people."""
    own: bool = False
    """Whether it is the agent's own interpreter."""
