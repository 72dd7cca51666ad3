"""Which environment a stream's worker starts in: the runtime components of a set, and which of them runs a model.

A model's own runtime (among its component's dependencies) goes before that of the stream.  A runtime that is not for
the model's format is passed over: a TFLite model of a stream that depends on DLR runs in the agent's own interpreter.
A backend of the user's own may need any of them, for the packages that were installed there for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.plan import Planned
from agent.greengrass.recipes.recipe import Unarchive
from agent.inference.environments.combinations import FAMILIES
from agent.inference.environments.spec import Environment, RuntimeSpec
from agent.inference.manifest import ModelSpec

__all__ = ["runtime_for", "runtime_specs"]

_RUN_BY: Final[Mapping[str, tuple[str, ...]]] = {
    ".tflite": ("litert",),
    ".onnx": ("onnx", "opencv"),
    ".pb": ("opencv",),
    ".caffemodel": ("opencv",),
    ".xml": ("opencv",),
}
"""A model file's suffix → the families of runtimes that run it, the best first."""
_RUN_FOLDERS: Final = ("dlr",)
"""Those that run a model which is a folder, whatever its name ends in."""


def runtime_specs(components: Iterable[Planned], layout: Layout) -> dict[str, RuntimeSpec]:
    """What each runtime component of a set asks for, by its name."""
    return {each.name: _spec(each, layout) for each in components if each.runtime is not None}


def runtime_for(
    spec: ModelSpec, environments: Mapping[str, Environment], *dependencies: Iterable[str]
) -> Environment | None:
    """The environment that runs a model; ``dependencies`` are the model's, then the stream's; None: the agent's own."""
    families = _families(spec)
    for names in dependencies:
        offered = {environments[name].family: environments[name] for name in sorted(names) if name in environments}
        for family in families:
            if family in offered:
                return offered[family]
    return None


def _families(spec: ModelSpec) -> tuple[str, ...]:
    """The families of runtimes that a model may run in, the best first."""
    backend, model = spec.manifest.backend, Path(spec.manifest.file)
    by_format = _RUN_FOLDERS if model.is_dir() else _RUN_BY.get(model.suffix, ())
    if backend in {"", "auto"}:
        return by_format
    return (backend,) if backend in FAMILIES else (*by_format, *FAMILIES)


def _spec(each: Planned, layout: Layout) -> RuntimeSpec:
    told = each.runtime
    assert told is not None  # noqa: S101 the caller asked
    unpacked = layout.unarchived(each.name, each.new)
    has_archives = any(artifact.unarchive is Unarchive.ZIP for artifact in each.manifest.artifacts)
    wheelhouse = Path(told.wheelhouse) if told.wheelhouse else (unpacked if has_archives else None)
    return RuntimeSpec(
        component=each.name,
        family=told.runtime,
        root=(layout.work(each.name) / (told.root or "environments")).resolve(),
        install=told.install,
        packages=told.packages,
        wheelhouse=wheelhouse,
        index=told.index,
        interpreter=told.interpreter,
    )
