"""The models that clients of a server load by a name of their own, in the one plane with all others.

A model is named by the path of its folder, relative ones from the server's own working folder, or as a component that
is deployed.  In the plane it has the server's name before its own, so that two servers and the streams do not meet.

A model may bring code, and whoever names one has that code run.  So where others than the agent's own user are clients,
a model never has the agent's rights for their sake: workers of another user have that user's, and load only what that
user can get at; where there is no such user, a model that brings code has to be below the roots that the configuration
names.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from agent.config.models import ModelOptions
from agent.errors import ModelRefusedError, VergeError
from agent.inference.manifest import SAMPLES, ModelSpec, for_user, keep_within, parts, resolve
from agent.inference.plane import InferencePlane
from agent.inference.values import ModelMetadata
from agent.users import Identity, may_reach

__all__ = ["LoadedModel", "ModelPlaces", "ServedModels"]

_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model under a client's name."""

    name: str
    url: str
    """As the client named it."""
    spec: ModelSpec
    key: str
    """Its name in the plane."""


@dataclass(frozen=True, slots=True)
class ModelPlaces:
    """Where models are found."""

    working: Path
    """Where relative paths start."""
    roots: tuple[Path, ...] = ()
    """Below one of these a path has to be; anywhere where there are none."""
    components: Callable[[], Mapping[str, ModelSpec]] = field(default=dict)
    """Component → its model, of those that are deployed now."""
    user: Identity | None = None
    """Whom workers run as."""
    shared: bool = False
    """Whether others than the agent's own user may name a model."""

    def find(self, url: str, options: ModelOptions) -> ModelSpec:
        """The model at a path, or of a component; raises ``ModelRefusedError`` and ``ConfigError``."""
        path = self._path(url)
        # A component may be used wherever the agent keeps it: whoever deployed it put it there.
        if not _has_files(path) and (deployed := self.components().get(Path(url).name)) is not None:
            return deployed
        if self.roots and not any(path.is_relative_to(root.resolve()) for root in self.roots):
            raise ModelRefusedError(
                f"{url} is not where models may be", code="model-outside", hint="name a folder below model_roots"
            )
        if not url or not os.path.exists(path):  # noqa: PTH110 raises nothing
            raise ModelRefusedError(f"there is no model {url!r}", code="model-missing")
        return self._resolved(path, options)

    def _path(self, url: str) -> Path:
        if len(url) > _LONGEST_PATH:
            raise ModelRefusedError("there is no model: the path is too long", code="model-missing")
        try:
            return (self.working / url.removeprefix("file://")).resolve()
        except (OSError, ValueError) as error:  # a NUL, a loop of links
            raise ModelRefusedError(f"there is no model {url!r}", code="model-missing") from error

    def _resolved(self, path: Path, options: ModelOptions) -> ModelSpec:
        try:
            with _in_part():
                spec = resolve(replace(options, source=str(path)), self.working)
                if self.roots:
                    keep_within(spec, *self.roots)
                return self._allowed(spec) if self.shared else for_user(spec, self.user)
        except OSError as error:
            raise ModelRefusedError(f"{path} cannot be read: {error.strerror}", code="model-incomplete") from error

    def _allowed(self, spec: ModelSpec) -> ModelSpec:
        """The model with the rights that a client may lend it."""
        if self.user is not None:
            closed = next((place for place in spec.folders if not self._is_open(place, self.user)), None)
            if closed is None:
                return _run_as(spec, self.user)
            raise ModelRefusedError(
                f"{closed} is closed to {self.user.name}, who runs models that clients name", code="model-outside",
                hint="put it where that user may read it, or name its folder in model_roots",
            )  # fmt: skip
        if not self.roots and (spec.own_code or any(file.suffix == ".so" for file in parts(spec))):
            raise ModelRefusedError(
                "the model brings code, which would run with the agent's own rights", code="model-outside",
                hint="name its folder in model_roots",
            )  # fmt: skip
        return spec

    def _is_open(self, place: Path, user: Identity) -> bool:
        return bool(self.roots) or place.is_relative_to(SAMPLES) or may_reach(place, user)


def _run_as(spec: ModelSpec, user: Identity) -> ModelSpec:
    stages = tuple((then, _run_as(stage, user)) for then, stage in spec.stages)
    return replace(spec, user=user, stages=stages)


@contextmanager
def _in_part() -> Iterator[None]:
    """There is a model: what is missing is a part of it."""
    try:
        yield
    except ModelRefusedError as error:
        error.code = "model-incomplete" if error.code == "model-missing" else error.code
        raise


def _has_files(path: Path) -> bool:
    """Whether there is something at a path; a component that has nothing there yet has a folder all the same."""
    try:
        return path.is_file() or any(path.iterdir())
    except OSError:
        return False


class ServedModels:
    """What the clients of the server ``owner`` have loaded; one name is loaded or unloaded by one client at a time.

    ``served`` makes of a model what is loaded in its place, ``check`` raises for one that cannot be served, ``forget``
    hears the names in the plane of models that are gone.
    """

    def __init__(
        self, owner: str, plane: InferencePlane, places: ModelPlaces, options: ModelOptions,
        served: Callable[[ModelSpec], ModelSpec] = lambda spec: spec, *,
        check: Callable[[ModelMetadata], None] = lambda _facts: None,
        forget: Callable[[str], None] = lambda _key: None, most: int = 32,
    ) -> None:  # fmt: skip
        self._owner = owner
        self._served = served
        self._check = check
        self._forget = forget
        self._most = most
        self._coming: set[str] = set()
        self._loading: set[asyncio.Task[LoadedModel]] = set()
        self._unloading: set[asyncio.Task[None]] = set()
        self._plane = plane
        self._places = places
        self._options = options
        self._models: dict[str, LoadedModel] = {}

    def __contains__(self, model: LoadedModel) -> bool:
        return self._models.get(model.name) is model

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(tuple(self._models.values()))

    def find(self, name: str) -> LoadedModel:
        """The model with a name; raises ``ModelRefusedError`` (``model-not-loaded``)."""
        try:
            return self._models[name]
        except KeyError:
            raise ModelRefusedError(f"no model {name[:100]!r} is loaded", code="model-not-loaded") from None

    def metadata(self, name: str) -> ModelMetadata:
        """What a loaded model is; raises as ``find``."""
        return self._plane.metadata(self.find(name).key)

    async def load(self, name: str, url: str) -> LoadedModel:
        """Load a model under a name.

        Raises what kept it from loading, and ``ModelRefusedError`` (``model-exists``, ``models-too-many``).
        """
        # A client that does not wait any more finds the model loaded when it asks again.
        task = asyncio.create_task(self._load(name, url), name=f"agent.edgeapi.load.{name}")
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)
        return await asyncio.shield(task)

    async def _load(self, name: str, url: str) -> LoadedModel:
        if name in self._models or name in self._coming:
            raise ModelRefusedError(f"a model {name!r} is loaded already", code="model-exists")
        if len(self._models) + len(self._coming) >= self._most:
            raise ModelRefusedError(f"{self._most} models are loaded", code="models-too-many", hint="unload one")
        self._coming.add(name)
        try:
            model = self._models[name] = await self._loaded(name, url)
        finally:
            self._coming.discard(name)
        return model

    async def _loaded(self, name: str, url: str) -> LoadedModel:
        spec = self._served(self._places.find(url, self._options))
        model = LoadedModel(name, url, spec, f"{self._owner}.{name}")
        with _in_part():
            facts = await self._plane.load(model.key, spec)
        try:
            self._check(facts)
        except VergeError:
            await self._unload(model)
            raise
        return model

    async def unload(self, name: str) -> None:
        """Unload a model; raises as ``find``."""
        model = self.find(name)
        del self._models[name]
        # Whoever hangs up meanwhile does not keep it from being unloaded.
        task = asyncio.create_task(self._unload(model), name=f"agent.edgeapi.unload.{name}")
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)
        await asyncio.shield(task)

    async def _unload(self, model: LoadedModel) -> None:
        await self._plane.unload(model.key)
        if not self._plane.has(model.key):  # and not loaded anew meanwhile
            self._forget(model.key)

    async def close(self) -> None:
        """Unload what is loaded, and what is being loaded."""
        await asyncio.gather(*self._loading, return_exceptions=True)
        for model in tuple(self._models):
            await self.unload(model)
        await asyncio.gather(*self._unloading, return_exceptions=True)
