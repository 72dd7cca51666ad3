"""Where and how a model is run: by which backend, on which accelerator, with how many threads."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from agent.inference.manifest import ModelSpec

__all__ = ["ANY", "CPU", "Placement", "most_threads"]

ANY: Final = "auto"
CPU: Final = "cpu"
_MOST_THREADS = 4
"""Past four a small network gains nothing."""


class Placement(Struct, frozen=True, order=True):
    """A way to run a model; ``auto`` leaves the accelerator to the backend."""

    backend: str
    accelerator: str
    threads: int
    """0 is as many as the plane gives."""

    def __str__(self) -> str:
        place = "" if self.accelerator == ANY else f" on {self.accelerator}"
        threads = f", {self.threads} thread{'' if self.threads == 1 else 's'}" if self.threads else ""
        return f"{self.backend}{place}{threads}"

    def applied(self, spec: ModelSpec) -> ModelSpec:
        """The model, to be run this way."""
        manifest = msgspec.structs.replace(spec.manifest, backend=self.backend)
        run = msgspec.structs.replace(spec.run, accelerator=self.accelerator, threads=self.threads)
        return msgspec.structs.replace(spec, manifest=manifest, run=run)


def most_threads(cpus: int, workers: int) -> int:
    """How many threads each of a model's workers may sensibly have."""
    return max(1, min(_MOST_THREADS, cpus // max(1, workers)))
