"""What a set of components comes to on this device: models to load, streams to run, scripts to supervise.

A model is loaded once for each way in which it is run; its key names the component, the version and a digest of
everything that makes a difference, so that two sets side by side share what they have in common and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.components.spec import ComponentSpec, Limits, RunAs
from agent.deployment.errors import DeploymentWrong
from agent.deployment.layout import Layout
from agent.deployment.plan import Kind, Planned
from agent.inference import manifest
from agent.inference.manifest import ModelSpec
from agent.recipes import lifecycle
from agent.recipes.lifecycle import StepName
from agent.recipes.recipe import Unarchive
from agent.recipes.variables import Context, interpolate
from agent.streams.options import StreamOptions

__all__ = ["ModelTarget", "Target", "target"]


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """A model as a stream runs it."""

    component: str
    spec: ModelSpec
    golden: Path | None
    """The folder of golden frames, if the model brings one."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be live; each stream's ``model`` is a key of ``models``."""

    models: Mapping[str, ModelTarget] = field(default_factory=dict)
    streams: Mapping[str, StreamOptions] = field(default_factory=dict)
    components: Mapping[str, ComponentSpec] = field(default_factory=dict)


def target(components: Sequence[Planned], layout: Layout, thing: str) -> Target:
    """What a set comes to; its files must be in place.

    Raises ``ModelRefused``, ``ConfigWrong`` or ``DeploymentWrong`` for a model that is not where it should be.
    """
    known = {each.name: each for each in components}
    models: dict[str, ModelTarget] = {}
    streams: dict[str, StreamOptions] = {}
    for each in components:
        if each.inference is not None:
            key, model = _model(each, known, layout)
            models[key] = model
            streams[each.name] = msgspec.structs.replace(each.inference.stream, model=key)
    scripts = {each.name: _spec(each, known, layout, thing) for each in components if each.kind is Kind.GENERIC}
    return Target(models, streams, scripts)


def _model(each: Planned, known: Mapping[str, Planned], layout: Layout) -> tuple[str, ModelTarget]:
    assert each.inference is not None  # noqa: S101 the caller asked
    component = known[each.inference.stream.model]
    if component.model is None:
        raise DeploymentWrong(
            f"{each.name}: Verge.Model is {component.name}, which brings no model",
            hint="a model component has ComponentType: verge.model, or a Verge block with an Archive",
            code="COMPONENT_CONFIGURATION_NOT_VALID",
        )
    folder = _folder(component, layout)
    options = each.inference.model_options(str(folder), component.model)
    if component.model.manifest.file:
        options = msgspec.structs.replace(options, source=str(folder / component.model.manifest.file))
    spec = manifest.resolve(options, folder)
    named = msgspec.structs.replace(spec.manifest, name=component.name, version=str(component.new))
    spec = msgspec.structs.replace(spec, manifest=named)
    golden = folder / "golden"
    key = f"{component.name}@{component.new}#{_difference(spec)}"
    return key, ModelTarget(component.name, spec, golden if golden.is_dir() else None)


def _folder(component: Planned, layout: Layout) -> Path:
    """Where the model's files are: its archive's folder, or that of its plain artifacts."""
    assert component.model is not None  # noqa: S101 the caller asked
    archives = [each for each in component.manifest.artifacts if each.unarchive is Unarchive.ZIP]
    names = [each.uri.rpartition("/")[2] for each in archives]
    wanted = component.model.archive or (names[0] if len(names) == 1 else "")
    if not wanted:
        return layout.artifacts(component.name, component.new)
    if wanted not in names:
        raise DeploymentWrong(
            f"{component.name}: Verge.Archive is {wanted!r}, which is no ZIP artifact of it",
            hint=f"there are: {', '.join(names) or 'none'}",
            code="COMPONENT_CONFIGURATION_NOT_VALID",
        )
    folder = layout.unarchived(component.name, component.new) / Path(wanted).stem
    inside = list(folder.iterdir()) if folder.is_dir() else []
    # Many archives hold one folder with everything in it.
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _difference(spec: ModelSpec) -> str:
    """Everything that makes a loaded model another one, the file itself included."""
    found = Path(spec.manifest.file).stat()
    told = msgspec.json.encode([spec, found.st_ino, found.st_size, found.st_mtime_ns])
    return hashlib.sha256(told).hexdigest()[:8]


def _spec(each: Planned, known: Mapping[str, Planned], layout: Layout, thing: str) -> ComponentSpec:
    values = {name: layout.values(name, one.new, one.configuration.to_plain()) for name, one in known.items()}
    context = Context(
        component=values[each.name],
        dependencies={name: values[name] for name in each.hard | each.soft if name in values},
        root=str(layout.root),
        thing_name=thing,
    )
    chosen = lifecycle.select(each.recipe, each.manifest)
    steps = lifecycle.parse(interpolate(chosen, context).lifecycle, each.name)
    if StepName.BOOTSTRAP in steps.steps:
        raise DeploymentWrong(
            f"{each.name}: the agent does not run Bootstrap steps, which may restart the agent or the device",
            code="COMPONENT_BOOTSTRAP_ERROR",
            hint="move what it does to Install",
        )
    run_with = each.run_with
    return ComponentSpec(
        name=each.name,
        version=str(each.new),
        lifecycle=steps,
        work=layout.work(each.name),
        # What runs inside the agent is there when scripts start.
        hard=frozenset(name for name in each.hard if known[name].kind is Kind.GENERIC),
        soft=frozenset(name for name in each.soft if name in known and known[name].kind is Kind.GENERIC),
        run_as=RunAs.parse(run_with.posix_user) if run_with.posix_user else None,
        limits=Limits(run_with.memory_kb, run_with.cpus),
        owned=(layout.artifacts(each.name, each.new), layout.unarchived(each.name, each.new)),
    )
