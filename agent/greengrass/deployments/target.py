"""What a set of components comes to on this device: models to load, streams to run, scripts to supervise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from agent.config.streams import StreamOptions
from agent.greengrass.components.spec import ComponentSpec, Limits, RunAs
from agent.greengrass.deployments.catalogue import TOKEN_EXCHANGE
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.model_target import ModelTarget, model_target
from agent.greengrass.deployments.plan import Kind, Planned
from agent.greengrass.recipes import lifecycle
from agent.greengrass.recipes.lifecycle import StepName
from agent.greengrass.recipes.variables import Context, interpolate
from agent.inference.environments.spec import Environment

__all__ = ["Target", "target"]


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be live; each stream's ``model`` is a key of ``models``."""

    models: Mapping[str, ModelTarget] = field(default_factory=dict)
    streams: Mapping[str, StreamOptions] = field(default_factory=dict)
    components: Mapping[str, ComponentSpec] = field(default_factory=dict)


def target(
    components: Sequence[Planned], layout: Layout, thing: str, environments: Mapping[str, Environment],
    granted: Mapping[str, str],
) -> Target:  # fmt: skip
    """What a set comes to; its files must be in place, and the environments of its runtime components.

    ``granted`` is told to components that depend on the token exchange.

    Raises ``ModelRefusedError``, ``ConfigError`` or ``DeploymentError`` for a model that is not where it should be.
    """
    known = {each.name: each for each in components}
    models: dict[str, ModelTarget] = {}
    streams: dict[str, StreamOptions] = {}
    for each in components:
        if each.inference is not None:
            key, model = model_target(each, known, layout, environments)
            models[key] = model
            streams[each.name] = msgspec.structs.replace(each.inference.stream, model=key)
    scripts = {
        each.name: _spec(each, known, layout, thing, granted) for each in components if each.kind is Kind.GENERIC
    }
    return Target(models, streams, scripts)


def _spec(
    each: Planned, known: Mapping[str, Planned], layout: Layout, thing: str, granted: Mapping[str, str]
) -> ComponentSpec:
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
        raise DeploymentError(
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
        env=granted if TOKEN_EXCHANGE in each.hard | each.soft else {},
        owned=(layout.artifacts(each.name, each.new), layout.unarchived(each.name, each.new)),
    )
