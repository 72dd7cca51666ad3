"""The device in its fleet: what the cloud registered and heard, while there was one, is kept here and published."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.edgeapi.edge_manager.capture.capture import Report
from agent.edgeapi.models import LoadedModel
from agent.files import write_atomically

__all__ = ["TOPIC", "Heartbeat", "Registration"]

TOPIC: Final = "edge-manager"
"""Below the agent's own topics; retained."""
_PERIOD_S: Final = 60.0
_AT_LEAST_S: Final = 1.0
"""Between two reports, however much changes."""


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """A device as it is registered, and when it was last heard of (ISO 8601)."""

    device: str
    fleet: str
    thing: str
    registered: str = ""
    heartbeat: str = ""

    def renewed(self, kept: Registration | None, now: str) -> Registration:
        """Heard of now; registered when it first was, as long as it is the same device of the same fleet."""
        same = kept is not None and (kept.device, kept.fleet, kept.thing) == (self.device, self.fleet, self.thing)
        since = kept.registered if kept is not None and same else ""
        return msgspec.structs.replace(self, registered=since or now, heartbeat=now)


class Heartbeat:
    """Keeps the registration in a file and publishes it with the state of models and captures.

    ``models`` are the loaded ones, each with its workers' state and its predictions; ``changed`` is set when they are
    others, ``captures`` the destination and how they are.
    """

    def __init__(
        self, path: Path, registration: Registration, publish: Callable[[str, Any], None],
        models: Callable[[], Iterable[tuple[LoadedModel, str, int]]], captures: Callable[[], tuple[str, Report]],
        changed: asyncio.Event,
    ) -> None:  # fmt: skip
        self._path = path
        self._registration = registration
        self._publish = publish
        self._models = models
        self._captures = captures
        self._changed = changed

    async def run(self) -> None:
        """Report until cancelled, and then that nothing is served any more."""
        try:
            while True:
                self._changed.clear()
                await self._beat()
                await asyncio.sleep(_AT_LEAST_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PERIOD_S):
                        await self._changed.wait()
        finally:
            self._report("stopped")

    async def _beat(self) -> None:
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._registration = self._registration.renewed(_kept(self._path), now)
        with suppress(OSError):  # what is the matter with the disk is said elsewhere
            await asyncio.to_thread(write_atomically, self._path, msgspec.json.encode(self._registration) + b"\n")
        self._report("serving")

    def _report(self, state: str) -> None:
        destination, captures = self._captures()
        models = [
            {
                "name": model.name, "url": model.url, "model": model.spec.name or model.name,
                "version": model.spec.manifest.version, "state": workers, "predictions": predictions,
            }
            for model, workers, predictions in self._models()
        ]  # fmt: skip
        self._publish(
            TOPIC,
            {
                "state": state,
                **msgspec.to_builtins(self._registration),
                "models": models,
                "captures": {"destination": destination, **msgspec.to_builtins(captures)},
            },
        )


def _kept(path: Path) -> Registration | None:
    try:
        return msgspec.convert(json.loads(path.read_bytes()), Registration)
    except (OSError, ValueError):
        return None
