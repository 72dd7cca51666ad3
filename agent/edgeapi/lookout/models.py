"""The anomaly models that clients start and stop: deployed components, and models of the configuration.

A model is loaded in the background once it is started, and the plane has it as ``lookout.NAME``.  What is deployed is
looked at whenever somebody asks: a model whose component has another version is loaded anew beside the old one, and one
whose component is gone is stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.edgeapi.lookout.answers import NO_VERDICT
from agent.edgeapi.lookout.bitmaps import LARGEST_BYTES
from agent.edgeapi.lookout.states import ModelEvent, ModelState, ModelStatus, step
from agent.errors import ModelRefusedError, VergeError
from agent.frames.frame import Picture
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.inference.values import Answer, ModelMetadata, PoolState

__all__ = ["AnomalyModels"]

log = logging.getLogger(__name__)

_JUDGING: Final = frozenset(("anomaly-detection", "inspection", "segmentation"))
"""Tasks whose models judge a picture without being told how."""
_KNOWN: Final = frozenset((
    "embedding", "image-classification", "keypoints", "map", "object-detection", "raw", "tensors", "text-recognition",
))  # fmt: skip
"""Those whose models do not."""


@dataclass(slots=True)
class _Model:
    key: str
    spec: ModelSpec
    state: ModelState = field(default_factory=ModelState)
    loaded: bool = False
    """Whether what the plane has under the key is ours."""


class AnomalyModels:
    """The models by their components' names; ``configured`` go before those that are ``deployed`` now.

    ``forget`` hears the names in the plane of models that are gone.
    """

    def __init__(
        self, plane: InferencePlane, deployed: Callable[[], Mapping[str, ModelSpec]],
        configured: Mapping[str, ModelSpec], forget: Callable[[str], None] = lambda _key: None,
    ) -> None:  # fmt: skip
        self._plane = plane
        self._deployed = deployed
        self._configured = configured
        self._forget = forget
        self._seen: Mapping[str, ModelSpec] | None = None
        self._models: dict[str, _Model] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def states(self) -> dict[str, ModelState]:
        """Every model's, by its name."""
        self._follow()
        return {name: self._state(model) for name, model in sorted(self._models.items())}

    def state(self, name: str) -> ModelState:
        """One model's; raises ``ModelRefusedError`` (``model-missing``)."""
        return self._state(self._find(name))

    def start(self, name: str) -> ModelStatus:
        """Begin to load a model; raises as ``state``, and ``ModelRefusedError`` (``model-state-wrong``)."""
        model = self._find(name)
        model.state = step(self._state(model), ModelEvent.START)
        self._spawn(self._load(name, model), f"agent.lookout.{name}.start")
        return model.state.status

    async def stop(self, name: str) -> ModelStatus:
        """Unload a model, once it has answered what it works on; raises as ``start``."""
        model = self._find(name)
        model.state = step(self._state(model), ModelEvent.STOP)
        # Whoever hangs up meanwhile does not keep it from being stopped.
        await asyncio.shield(self._spawn(self._unload(model), f"agent.lookout.{name}.stop"))
        return model.state.status

    async def detect(self, name: str, picture: Picture) -> Answer:
        """Have a picture judged; raises as ``start``, and as ``InferencePlane.infer``."""
        model = self._find(name)
        state = self._state(model)
        if state.status is not ModelStatus.RUNNING:
            raise ModelRefusedError(
                f"the model {name} is {state.status.name}",
                code="model-state-wrong",
                hint=state.message or "start it, and wait until it is RUNNING",
            )
        return await self._plane.infer(model.key, picture, label=model.key, paint=True)

    async def close(self) -> None:
        """Unload what is loaded."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self._models.values():
            await self._let_go(model)

    def _find(self, name: str) -> _Model:
        self._follow()
        try:
            return self._models[name]
        except KeyError:
            listed = ", ".join(sorted(self._models)) or "none"
            raise ModelRefusedError(
                f"there is no anomaly model {name}", code="model-missing", hint=f"models here: {listed}"
            ) from None

    def _state(self, model: _Model) -> ModelState:
        """As it is now: one whose workers gave up has failed, until they are back."""
        if model.state.status is ModelStatus.RUNNING and model.loaded:
            pool = self._plane.status(model.key)
            if pool.state is PoolState.BROKEN:
                return step(model.state, ModelEvent.FAIL, pool.reason)
        return model.state

    # -- what is deployed --------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        deployed = self._deployed()
        if deployed is self._seen:
            return
        self._seen = deployed
        specs = {name: spec for name, spec in deployed.items() if _may_judge(spec)} | dict(self._configured)
        for name, spec in specs.items():
            model = self._models.setdefault(name, _Model(f"lookout.{name}", spec))
            if model.spec != spec:
                model.spec = spec
                if model.state.status is ModelStatus.RUNNING:
                    self._spawn(self._renew(name, model), f"agent.lookout.{name}.renew")
        for name in self._models.keys() - specs.keys():
            self._remove(name)

    def _remove(self, name: str) -> None:
        model = self._models[name]
        if model.state.status is ModelStatus.RUNNING:
            model.state = step(model.state, ModelEvent.STOP)
            self._spawn(self._unload(model), f"agent.lookout.{name}.remove")
        elif model.state.status in (ModelStatus.STOPPED, ModelStatus.FAILED):
            self._models.pop(name)
        self._seen = None if name in self._models else self._seen  # looked at again until it is gone

    async def _renew(self, name: str, model: _Model) -> None:
        try:
            await self._plane.reload(model.key, model.spec)
        except VergeError as error:
            message = f"what is deployed now is not taken, and the earlier one goes on: {error}"
            log.warning("lookout: model %s: %s", name, message)
            if model.state.status is ModelStatus.RUNNING:
                model.state = ModelState(ModelStatus.RUNNING, message)

    # -- loading -----------------------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _load(self, name: str, model: _Model) -> None:
        spec = model.spec
        try:
            await self._let_go(model)  # the one that broke
            facts = await self._plane.load(model.key, spec, max_bytes=LARGEST_BYTES)
            model.loaded = True
            _check_judges(facts, spec)
        except VergeError as error:
            await self._fail(name, model, str(error))
        except Exception:  # a fault of ours costs this start, and is told
            log.exception("lookout: model %s", name)
            await self._fail(name, model, "a fault of the agent's; its log says more")
        else:
            model.state = step(model.state, ModelEvent.LOADED)
            if model.spec != spec:  # deployed anew meanwhile
                await self._renew(name, model)

    async def _fail(self, name: str, model: _Model, message: str) -> None:
        log.warning("lookout: model %s was not started: %s", name, message)
        await self._let_go(model)
        model.state = step(model.state, ModelEvent.FAIL, message)

    async def _unload(self, model: _Model) -> None:
        await self._let_go(model)
        model.state = step(model.state, ModelEvent.UNLOADED)

    async def _let_go(self, model: _Model) -> None:
        if model.loaded:
            model.loaded = False
            await self._plane.unload(model.key)
            self._forget(model.key)


def _may_judge(spec: ModelSpec) -> bool:
    """Whether a model may say something of anomalies, by what its manifest says."""
    return bool(spec.manifest.anomaly) or spec.manifest.task not in _KNOWN


def _check_judges(facts: ModelMetadata, spec: ModelSpec) -> None:
    """Raises ``ModelRefusedError`` for a model that says nothing of anomalies."""
    if not spec.manifest.anomaly and facts.task not in _JUDGING and facts.task in _KNOWN:
        raise ModelRefusedError(
            f"a model of the task {facts.task} says nothing of anomalies", code="no-verdict", hint=NO_VERDICT
        )
