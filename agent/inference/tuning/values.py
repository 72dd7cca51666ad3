"""What tuning speaks of: combinations, what was measured of each, and what is kept of it all."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from agent.inference.manifest import ModelSpec
from agent.results.result import Reason

__all__ = ["Ability", "Combination", "Machine", "Measured", "Tuning", "Wish"]


class Combination(Struct, frozen=True, order=True):
    """A way to run a model; ``auto`` leaves the accelerator to the backend."""

    backend: str
    accelerator: str
    threads: int
    """0 is as many as the plane gives."""

    def __str__(self) -> str:
        place = "" if self.accelerator == "auto" else f" on {self.accelerator}"
        threads = f", {self.threads} thread{'' if self.threads == 1 else 's'}" if self.threads else ""
        return f"{self.backend}{place}{threads}"

    def applied(self, spec: ModelSpec) -> ModelSpec:
        """The model, to be run this way."""
        manifest = msgspec.structs.replace(spec.manifest, backend=self.backend)
        run = msgspec.structs.replace(spec.run, accelerator=self.accelerator, threads=self.threads)
        return msgspec.structs.replace(spec, manifest=manifest, run=run)


class Ability(Struct, frozen=True):
    """A backend that reads the model's file, and the accelerators it has here, or why it does not run."""

    backend: str
    accelerators: tuple[str, ...] = ()
    problem: Reason | None = None


class Machine(Struct, frozen=True):
    """What figures depend on: another one of these makes them stale."""

    cpu: str
    architecture: str
    cpus: int
    """Those that the agent may use."""
    python: str
    packages: dict[str, str]
    """The versions of what runs models."""


class Wish(Struct, frozen=True):
    """What the manifest and the configuration say themselves, and tuning therefore keeps."""

    backend: str
    backend_options: dict[str, Any]
    accelerator: str
    threads: int
    workers: int
    input: dict[str, Any]
    interpreter: str
    environment: dict[str, str]

    @classmethod
    def of(cls, spec: ModelSpec) -> Wish:
        """What was wished for a model."""
        manifest, run = spec.manifest, spec.run
        return cls(
            manifest.backend, manifest.backend_options, run.accelerator, run.threads, max(1, run.workers),
            manifest.input, run.interpreter, run.environment,
        )  # fmt: skip


class Measured(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a combination: figures, or why there are none."""

    combination: Combination
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


class Tuning(Struct, frozen=True, kw_only=True):
    """All that was measured of a model on a machine."""

    format: int = 1
    model: str
    digest: str
    wish: Wish
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
    def ranked(self) -> tuple[Combination, ...]:
        """What to run the model with, in the order in which to try; empty where nothing could be chosen."""
        return tuple(each.combination for each in self.measured if each.fit)
