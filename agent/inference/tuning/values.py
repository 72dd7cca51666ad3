"""The values of tuning: what can run a model, what was measured of each placement, and what is kept of it all."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from agent.inference.manifest import ModelSpec
from agent.inference.placement import Placement
from agent.results.result import Reason

__all__ = ["Ability", "Machine", "Measured", "Requirements", "Tuning"]


class Ability(Struct, frozen=True):
    """A backend that reads the model's file, and the accelerators it has here, or why it does not run."""

    backend: str
    accelerators: tuple[str, ...] = ()
    problem: Reason | None = None


class Machine(Struct, frozen=True):
    """The facts that figures depend on: they are stale where one of these has changed."""

    cpu: str
    architecture: str
    cpus: int
    """Those that the agent may use."""
    python: str
    packages: dict[str, str]
    """The versions of what runs models."""


class Requirements(Struct, frozen=True):
    """What the manifest and the configuration settle, and tuning therefore keeps."""

    backend: str
    backend_options: dict[str, Any]
    accelerator: str
    threads: int
    workers: int
    input: dict[str, Any]
    interpreter: str
    environment: dict[str, str]

    @classmethod
    def of(cls, spec: ModelSpec) -> Requirements:
        """The requirements of a model."""
        manifest, run = spec.manifest, spec.run
        return cls(
            manifest.backend, manifest.backend_options, run.accelerator, run.threads, max(1, run.workers),
            manifest.input, run.interpreter, run.environment,
        )  # fmt: skip


class Measured(Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"placement": "combination"}):
    """The figures of a placement, or why there are none; files and JSON call it a combination."""

    placement: Placement
    runtime: str = ""
    """Name and version of what ran it: ``litert 2.3.0``."""
    ran_on: str = ""
    """What really ran it, in the words of the manifest."""
    load_ms: float = 0.0
    rounds: int = 0
    median_ms: float = 0.0
    """From the encoded picture to the predictions, as the worker took it."""
    p95_ms: float = 0.0
    infer_ms: float = 0.0
    """The network's part of it, as a median."""
    noise: float = 0.0
    """The standard error of the median, as a fraction of it."""
    agreed: int = 0
    """On how many of the pictures it says what the reference says."""
    problem: Reason | None = None
    """Why it is out."""

    @property
    def fit(self) -> bool:
        """Whether it may be chosen."""
        return self.problem is None and self.rounds > 0


class Tuning(Struct, frozen=True, kw_only=True, rename={"requirements": "wish"}):
    """All that was measured of a model on a machine; files and JSON call its requirements a wish."""

    format: int = 1
    model: str
    digest: str
    requirements: Requirements
    machine: Machine
    measured_at: str
    took_s: float
    pictures: tuple[str, ...]
    """The names of those that were answered."""
    measured: tuple[Measured, ...]
    """The chosen one first, then the others that could be chosen by their median, then those that are out."""
    reason: str
    """Why the first one is chosen; where none could be, why not."""

    @property
    def ranked(self) -> tuple[Placement, ...]:
        """What to run the model with, in the order in which to try; empty where nothing could be chosen."""
        return tuple(measured.placement for measured in self.measured if measured.fit)
