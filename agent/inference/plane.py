"""The one door to inference: load, unload, describe, infer.

Streams, the command line and whatever else wants an answer come through here and hold no inference
logic of their own.  A stream *attaches* to a model as a feeder; a single request *infers*.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.config.streams import FrameLimits
from agent.config.strict import nearest
from agent.errors import ModelRefusedError, NotConnectedError, VergeError, WorkerLostError
from agent.frames.frame import Picture
from agent.inference.manifest import ModelSpec
from agent.inference.pool import Pool
from agent.inference.quarantine import Quarantine
from agent.inference.values import Answer, Description, Feeder, InferenceRequest, PoolState, PoolStatus, Snapshot

__all__ = ["InferencePlane"]

_WAITING = 64
"""Single requests that may wait for one model."""

Changed = Callable[[str, PoolStatus], None]


class InferencePlane:
    """Every loaded model, by name; leaving the context unloads them."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        quarantine: Path,
        *,
        limits: FrameLimits | None = None,
        changed: Changed | None = None,
    ) -> None:
        self._tasks = tasks
        self._quarantine = Quarantine(quarantine)
        self._limits = limits or FrameLimits()
        self._changed = changed or (lambda _name, _status: None)
        self._models: dict[str, tuple[Pool, _Requests]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(self.unload(name) for name in list(self._models)))

    async def load(self, name: str, spec: ModelSpec) -> Description:
        """Load a model under a name and say what it is; raises what kept it from loading."""
        if name in self._models:
            raise ModelRefusedError(f"a model {name!r} is loaded already", code="model-exists", hint="unload it first")

        def changed() -> None:
            requests.look()
            self._changed(name, pool.status)

        pool = Pool(
            name,
            spec,
            threads=spec.run.threads or _fair_threads(spec.run.workers),
            limits=self._limits,
            quarantine=self._quarantine,
            changed=changed,
        )
        requests = _Requests(pool)
        description = await pool.start(self._tasks)
        pool.attach(requests)
        self._models[name] = pool, requests
        return description

    async def unload(self, name: str) -> None:
        """End a model's workers once they have answered what they hold; what waits is refused."""
        pool, requests = self._find(name)
        del self._models[name]
        requests.close()
        await pool.stop()

    def describe(self, name: str) -> PoolStatus:
        """The state of a model's workers and what the model is."""
        return self._find(name)[0].status

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the loaded models."""
        return tuple(self._models)

    async def infer(self, name: str, picture: Picture, *, snapshot: Snapshot | None = None, label: str = "") -> Answer:
        """Have one picture answered; raises what the model or its workers had against it."""
        return await self._find(name)[1].ask(picture, snapshot, label)

    def attach(self, name: str, feeder: Feeder) -> None:
        """Have a model take its pictures from ``feeder`` too."""
        self._find(name)[0].attach(feeder)

    def detach(self, name: str, feeder: Feeder) -> None:
        """Have a model take no more pictures from ``feeder``."""
        if name in self._models:
            self._models[name][0].detach(feeder)

    def wake(self, name: str) -> None:
        """Tell a model that a feeder of it has a picture."""
        self._models[name][0].wake()

    def _find(self, name: str) -> tuple[Pool, _Requests]:
        try:
            return self._models[name]
        except KeyError:
            raise ModelRefusedError(
                f"no model {name!r} is loaded",
                code="model-not-loaded",
                hint=nearest(name, self._models) or f"loaded: {', '.join(self._models) or 'none'}",
            ) from None


class _Requests:
    """Single pictures that wait for a model, first come first served."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[InferenceRequest] = deque()

    async def ask(self, picture: Picture, snapshot: Snapshot | None, label: str) -> Answer:
        if self._pool.status.state is PoolState.BROKEN:
            raise self._broken()
        if len(self._waiting) >= _WAITING:
            raise NotConnectedError(f"{_WAITING} requests wait for the model already", code="busy", hint="ask later")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def finish(outcome: Answer | VergeError) -> None:
            if answered.done():
                return
            if isinstance(outcome, VergeError):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        self._waiting.append(InferenceRequest(picture, finish, label, snapshot))
        self._pool.wake()
        return await answered

    def take(self) -> InferenceRequest | None:
        return self._waiting.popleft() if self._waiting else None

    def look(self) -> None:
        """The pool changed: nobody waits for a broken model."""
        if self._pool.status.state is PoolState.BROKEN:
            self._fail(self._broken())

    def close(self) -> None:
        self._fail(ModelRefusedError("the model was unloaded", code="model-unloaded"))

    def _fail(self, error: VergeError) -> None:
        while self._waiting:
            self._waiting.popleft().finish(error)

    def _broken(self) -> WorkerLostError:
        pool = self._pool
        return WorkerLostError(f"the model {pool.name} is broken: {pool.status.reason}", code="model-broken")


def _fair_threads(workers: int) -> int:
    """The processors this process may use, shared between the workers; past four a small network gains nothing."""
    return max(1, min(4, len(os.sched_getaffinity(0)) // max(1, workers)))
