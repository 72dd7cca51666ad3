"""What the configuration says of a model: which one, what to override, and how to run it."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["ModelOptions"]


class ModelOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model in the configuration: which one, what to override, and how to run it."""

    source: str
    """The name of a sample, a folder, or a model file."""
    backend: str = ""
    task: str = ""
    labels: str = ""
    input: dict[str, Any] = {}
    options: dict[str, Any] = {}
    usual_options: dict[str, Any] = {}
    """Options that hold where neither the manifest nor ``options`` says otherwise; not for a task of one's own."""
    backend_options: dict[str, Any] = {}
    preprocess: str = ""
    preprocess_options: dict[str, Any] = {}
    postprocess: str = ""
    postprocess_options: dict[str, Any] = {}
    autotune: bool | None = None
    accelerator: str = "auto"
    workers: int = 1
    threads: int = 0
    """Per worker; 0 shares the machine's processors between the workers."""
    memory_mb: int = 0
    """How much a worker may take beyond the loaded model; 0 is no limit."""
    deadline_s: float = 2.0
    """At least this long may a picture take before its worker counts as hung."""
    load_timeout_s: float = 120.0
    interpreter: str = ""
    """Another Python for the workers; empty is the agent's own."""
    python_path: tuple[str, ...] = ()
    """Folders in which a worker finds backends and tasks named ``module:Class``."""
    environment: dict[str, str] = {}
