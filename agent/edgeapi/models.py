"""The models that clients of a server load by a name of their own, in the one plane with all others.

A model is named by the path of its folder, relative ones from the server's own working folder, or as a component that
is deployed.  In the plane it has the server's name before its own, so that two servers and the streams do not meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from agent.config.models import ModelOptions
from agent.errors import ModelRefusedError
from agent.inference.manifest import ModelSpec, for_user, resolve
from agent.inference.plane import InferencePlane
from agent.inference.values import ModelMetadata
from agent.users import Identity

__all__ = ["LoadedModel", "ModelPlaces", "ServedModels"]


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

    def find(self, url: str, options: ModelOptions) -> ModelSpec:
        """The model at a path, or of a component; raises ``ModelRefusedError`` and ``ConfigError``."""
        path = self._path(url)
        if not path.exists() and (deployed := self.components().get(Path(url).name)) is not None:
            return deployed
        if self.roots and not any(path.is_relative_to(root.resolve()) for root in self.roots):
            raise ModelRefusedError(
                f"{url} is not where models may be", code="model-outside", hint="name a folder below model_roots"
            )
        if not path.exists():
            raise ModelRefusedError(f"there is no model {url}", code="model-missing")
        return for_user(resolve(replace(options, source=str(path)), self.working), self.user)

    def _path(self, url: str) -> Path:
        return (self.working / url.removeprefix("file://")).resolve()


class ServedModels:
    """What the clients of the server ``owner`` have loaded; one name is loaded or unloaded by one client at a time."""

    def __init__(self, owner: str, plane: InferencePlane, places: ModelPlaces, options: ModelOptions) -> None:
        self._owner = owner
        self._plane = plane
        self._places = places
        self._options = options
        self._models: dict[str, LoadedModel] = {}

    def __iter__(self) -> Iterator[LoadedModel]:
        return iter(tuple(self._models.values()))

    def find(self, name: str) -> LoadedModel:
        """The model with a name; raises ``ModelRefusedError`` (``model-not-loaded``)."""
        try:
            return self._models[name]
        except KeyError:
            raise ModelRefusedError(f"no model {name!r} is loaded", code="model-not-loaded") from None

    def metadata(self, name: str) -> ModelMetadata:
        """What a loaded model is; raises as ``find``."""
        return self._plane.metadata(self.find(name).key)

    async def load(self, name: str, url: str) -> LoadedModel:
        """Load a model under a name; raises what kept it from loading, and ``ModelRefusedError`` (``model-exists``)."""
        if name in self._models:
            raise ModelRefusedError(f"a model {name!r} is loaded already", code="model-exists")
        spec = self._places.find(url, self._options)
        model = LoadedModel(name, url, spec, f"{self._owner}.{name}")
        await self._plane.load(model.key, spec)
        self._models[name] = model
        return model

    async def unload(self, name: str) -> None:
        """Unload a model; raises as ``find``."""
        model = self.find(name)
        del self._models[name]
        await self._plane.unload(model.key)

    async def close(self) -> None:
        """Unload what is loaded."""
        for model in tuple(self._models):
            await self.unload(model)
