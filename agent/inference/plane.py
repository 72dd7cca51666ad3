"""The one door to inference: load, reload, unload, ready, metadata, infer.

Streams, tuning, golden frames, the command line and whatever else wants an answer come through here and hold no
inference logic of their own.  A stream *attaches* to a model as a feeder; a single request *infers*, with an encoded
picture or with raw tensors.

How a model is run (backend, accelerator, threads) is what its manifest and configuration say, unless the plane has a
``Placer`` that knows better placements for it: those are tried first, best first.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from msgspec.structs import replace

from agent.config.streams import FrameLimits
from agent.config.strict import nearest
from agent.errors import (
    BackendUnavailableError,
    FrameError,
    ModelRefusedError,
    NotConnectedError,
    VergeError,
    WorkerLostError,
)
from agent.frames.frame import Picture
from agent.inference.manifest import ModelSpec
from agent.inference.placement import ANY, CPU, Placement, most_threads
from agent.inference.pool import Pool
from agent.inference.quarantine import Quarantine
from agent.inference.tensors import RawTensor, TensorInput
from agent.inference.values import (
    Answer,
    Feeder,
    InferenceRequest,
    ModelMetadata,
    PoolState,
    PoolStatus,
    Snapshot,
    TensorAnswer,
)

__all__ = ["InferencePlane", "Placer"]

log = logging.getLogger(__name__)

_WAITING = 64
"""Single requests that may wait for one model."""

Changed = Callable[[str, PoolStatus], None]
FellBack = Callable[[str, str], None]


class Placer(Protocol):
    """Knows how models are best run on this device."""

    async def placements(self, name: str, spec: ModelSpec) -> Sequence[Placement]:
        """The placements to try before what the manifest says, best first; none where there is nothing to choose."""


class InferencePlane:
    """Every loaded model, by name; leaving the context unloads them.

    ``changed`` is called when a model's workers are in another state, ``fell_back`` with the reason when a model
    could not be run at the best of its placements.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        quarantine: Path,
        *,
        limits: FrameLimits | None = None,
        placer: Placer | None = None,
        changed: Changed | None = None,
        fell_back: FellBack | None = None,
    ) -> None:
        self._tasks = tasks
        self._quarantine = Quarantine(quarantine)
        self._limits = limits or FrameLimits()
        self._placer = placer
        self._changed = changed or (lambda _name, _status: None)
        self._fell_back = fell_back or (lambda _name, _reason: None)
        self._models: dict[str, _Loaded] = {}
        self._limits_of: dict[str, FrameLimits] = {}
        """Those of models that have limits of their own."""
        self._loading: set[str] = set()
        self._reloading: set[str] = set()
        self._listeners: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Streams have waited for what they had in work before they left.
        await asyncio.gather(*(self._unload(name, finish=False) for name in list(self._models)))

    # -- models ----------------------------------------------------------------------------------------------

    async def load(
        self, name: str, spec: ModelSpec, placement: Placement | None = None, *, max_bytes: int | None = None
    ) -> ModelMetadata:
        """Load a model under a name and say what it is; raises what kept it from loading.

        It runs at the best placement that can be had; with ``placement``, there and nowhere else.  ``max_bytes`` is
        what its pictures may have in place of what holds for all models: room is kept for two such pictures, which
        costs no memory until they come.
        """
        with self._reserved(name):
            if max_bytes is not None:
                self._limits_of[name] = replace(self._limits, max_bytes=max_bytes)
            if placement is not None:
                return await self._load_at(name, spec, placement)
            return await self._load_best(name, spec)

    async def revive(self, name: str, spec: ModelSpec) -> bool:
        """Load a model that has served before: one that cannot be loaded now is tried again, as one whose workers died.

        Whether it is loaded; until it is, it is there, and broken or on its way.
        """
        with self._reserved(name):
            try:
                await self._load_best(name, spec)
            except VergeError as error:
                log.warning("model %s: it cannot be loaded now, and is tried again: %s", name, error)
                requests = _Requests()
                requests.pool = pool = self._pool(name, spec, requests)
                pool.attach(requests)
                self._models[name] = _Loaded(pool, requests)
                pool.start_later(self._tasks, error)
                return False
            return True

    async def unload(self, name: str) -> None:
        """End a model's workers once they have answered what they hold; what waits is refused."""
        await self._unload(name)

    async def _unload(self, name: str, *, finish: bool = True) -> None:
        model = self._find(name)
        del self._models[name]
        self._limits_of.pop(name, None)
        self._tell()
        model.requests.close()
        await model.pool.stop(finish=finish)

    async def reload(self, name: str, spec: ModelSpec | None = None) -> None:
        """Have a model answered by new workers, loaded beside the old ones, which finish what they hold.

        With ``spec`` it is another model from then on, run at the first placement there is for it.
        Raises what kept it from loading; then the old ones go on.
        """
        serving = self._find(name)
        if name in self._reloading:
            raise ModelRefusedError(f"the model {name!r} is being loaded anew already", code="model-exists")
        self._reloading.add(name)
        try:
            if spec is not None and self._placer is not None:
                spec = next((one.applied(spec) for one in await self._placer.placements(name, spec)), spec)
            pool = self._pool(name, spec or serving.pool.spec, serving.requests)
            await pool.start(self._tasks)
            if self._models.get(name) is not serving:
                await pool.stop()
                raise ModelRefusedError(f"the model {name!r} was unloaded meanwhile", code="model-unloaded")
        finally:
            self._reloading.discard(name)
        self._models[name] = _Loaded(pool, serving.requests)
        serving.requests.pool = pool
        serving.pool.hand_over(pool)
        self._changed(name, pool.status)
        self._tell()
        await serving.pool.stop()

    def ready(self, name: str) -> bool:
        """Whether a model can answer now: one of its workers is up; raises as ``metadata`` for one nobody loads."""
        return name not in self._loading and self._find(name).pool.status.workers > 0

    def metadata(self, name: str) -> ModelMetadata:
        """What a loaded model is; raises ``ModelRefusedError`` (``model-not-loaded``) for any other.

        Raises ``WorkerLostError`` (``model-broken``) for one that was never loaded since it was revived.
        """
        model = self._find(name)
        if model.pool.status.metadata is None:
            raise model.requests.broken()
        return model.pool.status.metadata

    def status(self, name: str) -> PoolStatus:
        """The state of a loaded model's workers; raises as ``metadata``."""
        return self._find(name).pool.status

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the loaded models."""
        return tuple(self._models)

    def has(self, name: str) -> bool:
        """Whether a name is a model's, which is loaded or about to be."""
        return name in self._models or name in self._loading

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener`` called when models come and go and their workers change; the result ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self) -> None:
        for listener in (*self._listeners,):
            listener()

    # -- answers ---------------------------------------------------------------------------------------------

    async def infer(
        self, name: str, picture: Picture, *, snapshot: Snapshot | None = None, label: str = "picture",
        paint: bool = False,
    ) -> Answer:  # fmt: skip
        """Have one picture answered; raises what the model or its workers had against it.

        With ``paint``, the answer has a verdict (``Anomaly``), and a picture of where anomalies are; neither where the
        model says nothing that could be judged.
        """
        model = self._find(name)
        limit = self._limits_for(name).max_bytes
        if len(picture.data) > limit:
            raise FrameError(
                f"the picture has {len(picture.data)} bytes, the limit is {limit}",
                hint="send a smaller or more compressed picture, or raise max_bytes",
                code="too-many-bytes",
            )
        answer: Answer = await model.requests.ask(picture, label, snapshot, paint=paint)
        return answer

    async def infer_tensors(
        self, name: str, tensors: Sequence[RawTensor], *, outputs: Sequence[str] = (), label: str = "tensors"
    ) -> TensorAnswer:
        """Run a model's network on raw tensors, past its preprocessing and its task; ``outputs`` names the wanted ones.

        Raises ``ModelRefusedError`` (``tensor-wrong``) for tensors that are not what the network takes, and what
        ``infer`` raises.
        """
        model = self._find(name)
        answer: TensorAnswer = await model.requests.ask(
            TensorInput.of(tensors, outputs, self._limits_for(name).max_bytes), label
        )
        return answer

    # -- streams ---------------------------------------------------------------------------------------------

    def attach(self, name: str, feeder: Feeder) -> None:
        """Have a model take its requests from ``feeder`` too."""
        self._find(name).pool.attach(feeder)

    def detach(self, name: str, feeder: Feeder) -> None:
        """Have a model take no more requests from ``feeder``."""
        if name in self._models:
            self._models[name].pool.detach(feeder)

    def wake(self, name: str) -> None:
        """A feeder of a model has a request."""
        self._models[name].pool.wake()

    # -- loading ---------------------------------------------------------------------------------------------

    @contextmanager
    def _reserved(self, name: str) -> Iterator[None]:
        """A name is taken from the moment at which its model begins to load."""
        if self.has(name):
            raise ModelRefusedError(f"a model {name!r} is loaded already", code="model-exists", hint="unload it first")
        self._loading.add(name)
        try:
            yield
        finally:
            self._loading.discard(name)
            if name not in self._models:
                self._limits_of.pop(name, None)
            self._tell()

    async def _load_best(self, name: str, spec: ModelSpec) -> ModelMetadata:
        placements = await self._placer.placements(name, spec) if self._placer else ()
        failures: list[str] = []
        for placement in placements:
            try:
                metadata = await self._load_at(name, spec, placement)
            except VergeError as error:
                # On the processor there is nothing that could be gone but the backend.
                if placement.accelerator == CPU and not isinstance(error, BackendUnavailableError):
                    raise
                failures.append(f"{placement} cannot be had: {error.message}")
                log.warning("model %s: %s", name, failures[-1])
            else:
                self._report(name, failures, str(placement))
                return metadata
        metadata = await self._load(name, spec)
        self._report(name, failures, "what its manifest says")
        return metadata

    def _report(self, name: str, failures: Sequence[str], instead: str) -> None:
        if failures:
            reason = f"{'; '.join(failures)}; it runs with {instead}"
            log.warning("model %s: not the fastest way: %s", name, reason)
            self._fell_back(name, reason)

    async def _load_at(self, name: str, spec: ModelSpec, placement: Placement) -> ModelMetadata:
        """Load a model at a placement; raises ``BackendUnavailableError`` too when another accelerator runs it."""
        metadata = await self._load(name, placement.applied(spec))
        wanted = placement.accelerator
        if wanted not in (ANY, metadata.accelerator):
            await self.unload(name)
            raise BackendUnavailableError(
                f"{wanted} was asked for, and {metadata.accelerator} runs it", code="accelerator-unavailable"
            )
        return metadata

    async def _load(self, name: str, spec: ModelSpec) -> ModelMetadata:
        requests = _Requests()
        requests.pool = pool = self._pool(name, spec, requests)
        metadata = await pool.start(self._tasks)
        pool.attach(requests)
        self._models[name] = _Loaded(pool, requests)
        return metadata

    def _pool(self, name: str, spec: ModelSpec, requests: _Requests) -> Pool:
        def changed() -> None:
            serving = self._models.get(name)
            # While a model is loaded anew, what counts are the workers that answer.
            if serving is None or serving.pool is pool:
                requests.on_status(pool.status)
                self._changed(name, pool.status)
                self._tell()

        pool = Pool(
            name,
            spec,
            threads=spec.run.threads or most_threads(len(os.sched_getaffinity(0)), spec.run.workers),
            limits=self._limits_for(name),
            quarantine=self._quarantine,
            changed=changed,
        )
        return pool

    def _limits_for(self, name: str) -> FrameLimits:
        return self._limits_of.get(name, self._limits)

    def _find(self, name: str) -> _Loaded:
        try:
            return self._models[name]
        except KeyError:
            raise ModelRefusedError(
                f"no model {name!r} is loaded",
                code="model-not-loaded",
                hint=nearest(name, self._models) or f"loaded: {', '.join(self._models) or 'none'}",
            ) from None


class _Requests:
    """Single requests that wait for a model, first come first served."""

    pool: Pool
    """Whose workers answer them."""

    def __init__(self) -> None:
        self._waiting: deque[InferenceRequest[Any]] = deque()

    async def ask(
        self, content: Picture | TensorInput, label: str, snapshot: Snapshot | None = None, *, paint: bool = False
    ) -> Any:
        """The answer, of the kind that the input has."""
        if self.pool.status.state is PoolState.BROKEN:
            raise self.broken()
        if len(self._waiting) >= _WAITING:
            raise NotConnectedError(f"{_WAITING} requests wait for the model already", code="busy", hint="ask later")
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def finish(outcome: Any) -> None:
            if answered.done():
                return
            if isinstance(outcome, VergeError):
                answered.set_exception(outcome)
            else:
                answered.set_result(outcome)

        request = InferenceRequest(content, finish, label, snapshot, paint)
        self._waiting.append(request)
        self.pool.wake()
        try:
            return await answered
        except asyncio.CancelledError:
            # Nobody waits for it: what it holds and the worker's time are others'.
            if request in self._waiting:
                self._waiting.remove(request)
            raise

    def take(self) -> InferenceRequest[Any] | None:
        return self._waiting.popleft() if self._waiting else None

    def on_status(self, status: PoolStatus) -> None:
        """Nobody waits for a broken model."""
        if status.state is PoolState.BROKEN:
            self._fail(self.broken())

    def close(self) -> None:
        self._fail(ModelRefusedError("the model was unloaded", code="model-unloaded"))

    def _fail(self, error: VergeError) -> None:
        while self._waiting:
            self._waiting.popleft().finish(error)

    def broken(self) -> WorkerLostError:
        """Why nobody is answered."""
        pool = self.pool
        return WorkerLostError(f"the model {pool.name} is broken: {pool.status.reason}", code="model-broken")


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A model in the plane."""

    pool: Pool
    requests: _Requests
