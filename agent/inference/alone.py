"""One model, loaded for itself in a real worker, for a look or a few answers."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.inference.values import ModelMetadata

__all__ = ["MODEL", "loaded"]

MODEL = "model"
"""The one name in a plane that holds one model."""


@asynccontextmanager
async def loaded(spec: ModelSpec) -> AsyncIterator[tuple[InferencePlane, ModelMetadata]]:
    """A plane with the model in it, called ``MODEL``; raises what kept it from loading, or what the body raises.

    Nothing is given up for being slow: whoever waits decides how long.
    """
    spec = replace(spec, run=replace(spec.run, deadline_s=math.inf))
    try:
        # What a worker is lost over is quarantined here, and gone with the folder: its owner has it anyway.
        with tempfile.TemporaryDirectory(prefix="verge-") as folder:
            async with asyncio.TaskGroup() as tasks, InferencePlane(tasks, Path(folder)) as plane:
                yield plane, await plane.load(MODEL, spec)
    except ExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
