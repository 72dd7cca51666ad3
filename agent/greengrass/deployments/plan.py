"""What becomes of each component: the resolved set against the one that is active.

==============  ======================================================================================
action          when
==============  ======================================================================================
``INSTALL``     it was not there
``UPDATE``      another version, another recipe, another manifest of it, or it was broken: anew
``RECONFIGURE`` the same, with another configuration, run user or (a stream) model
``KEEP``        nothing changes
==============  ======================================================================================

A component that is not in the new set is ``Removed``: it goes after the new set is healthy.

What a component is (``kinds``) comes from its recipe and its configuration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from graphlib import TopologicalSorter
from typing import Any, Final, TypeAlias

from agent.greengrass import catalog
from agent.greengrass.catalog.keys import Device
from agent.greengrass.deployments import blocks
from agent.greengrass.deployments.blocks import InferenceBlock, ModelBlock, RuntimeBlock
from agent.greengrass.deployments.configurations import Configured
from agent.greengrass.deployments.kinds import ComponentKind, kind_of, model_of
from agent.greengrass.deployments.nucleus import NucleusSettings
from agent.greengrass.deployments.request import Deployment, RunWith
from agent.greengrass.deployments.resolver import Resolution
from agent.greengrass.deployments.state import Active, ActiveSet
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes import configuration, platform
from agent.greengrass.recipes.configuration import Tree
from agent.greengrass.recipes.platform import Attributes
from agent.greengrass.recipes.recipe import Artifact, ComponentType, Manifest, Recipe
from agent.greengrass.recipes.variables import Context, Values
from agent.greengrass.recipes.versions import Version

__all__ = ["Action", "ComponentKind", "Fetch", "Plan", "Planned", "Removed", "plan", "removed", "same_values"]


DeviceOf: TypeAlias = Callable[[str], Device]
ContextOf: TypeAlias = Callable[[str, Version], Context]
"""What the system's variables of a component stand for."""
_UNCONFIGURED: Final = NucleusSettings()


class Action(StrEnum):
    """What becomes of a component."""

    INSTALL = "install"
    UPDATE = "update"
    RECONFIGURE = "reconfigure"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Fetch:
    """An artifact that must be there before activation."""

    component: str
    version: Version
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class Planned:
    """A component of the new set, and what becomes of it; ``old`` is None for one that is new."""

    action: Action
    kind: ComponentKind
    recipe: Recipe
    manifest: Manifest
    old: Version | None
    configured: Configured
    run_with: RunWith
    model: ModelBlock | None = None
    """Of a MODEL."""
    inference: InferenceBlock | None = None
    """Of an INFERENCE."""
    runtime: RuntimeBlock | None = None
    """Of a RUNTIME."""
    nucleus: NucleusSettings = field(default_factory=NucleusSettings)
    """What the nucleus's configuration says of every component."""

    @property
    def configuration(self) -> Tree:
        """Its configuration as it is stored."""
        return self.configured.tree

    @property
    def runs_with(self) -> RunWith:
        """Its own user and limits, and the nucleus's where it has none."""
        return self.run_with.or_else(self.nucleus.run_with)

    @property
    def values(self) -> Mapping[str, Any]:
        """The configuration as scripts see it."""
        return self.configured.seen.to_plain()

    @property
    def name(self) -> str:
        """The component's name."""
        return self.recipe.name

    @property
    def new(self) -> Version:
        """Its version in the new set."""
        return self.recipe.version

    @property
    def hard(self) -> frozenset[str]:
        """The components that must be ready before it starts."""
        return frozenset(name for name, dependency in self.recipe.dependencies.items() if dependency.hard)

    @property
    def soft(self) -> frozenset[str]:
        """The components that must be there."""
        return frozenset(name for name, dependency in self.recipe.dependencies.items() if not dependency.hard)

    @property
    def active(self) -> Active:
        """The component as it is once the plan is done."""
        return Active(self.recipe, self.manifest, self.kind, self.run_with)


@dataclass(frozen=True, slots=True)
class Removed:
    """A component that is not in the new set."""

    name: str
    version: Version
    kind: ComponentKind


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a deployment does: ``components`` dependencies first, ``removed`` dependers first."""

    deployment: Deployment
    components: tuple[Planned, ...]
    removed: tuple[Removed, ...] = ()

    def having(self, *actions: Action) -> tuple[Planned, ...]:
        """The components with one of the actions, dependencies first."""
        return tuple(component for component in self.components if component.action in actions)

    @property
    def changes(self) -> bool:
        """Whether anything is to be done at all."""
        return bool(self.removed) or any(component.action is not Action.KEEP for component in self.components)

    @property
    def fetches(self) -> tuple[Fetch, ...]:
        """The artifacts of what is installed or updated."""
        return tuple(
            Fetch(component.name, component.new, artifact)
            for component in self.having(Action.INSTALL, Action.UPDATE)
            for artifact in component.manifest.artifacts
        )

    @property
    def result(self) -> ActiveSet:
        """What is live once the plan is done."""
        return ActiveSet({component.name: component.active for component in self.components})


def plan(
    active: ActiveSet,
    resolution: Resolution,
    deployment: Deployment,
    configs: Mapping[str, Tree],
    attributes: Attributes,
    *,
    broken: Collection[str] = (),
    device: DeviceOf = lambda _component: blocks.ANYWHERE,
    nucleus: NucleusSettings = _UNCONFIGURED,
    context: ContextOf = lambda _component, _version: Context(Values()),
    now_ms: int | None = None,
) -> Plan:
    """Compare the resolved set with the active one.

    ``configs`` are the stored configurations of the active components, ``attributes`` this device, ``broken`` the
    components that gave up: they are installed anew.  ``device`` is what AWS's keys of a component depend on,
    ``nucleus`` what holds for all components, ``context`` what the system's variables stand for, and ``now_ms`` the
    time of the processing.

    Raises:
        NoManifestError: a component is not for this device.
        DeploymentError: a component is of a type that the agent cannot run, its ``Verge`` block cannot be used, or
            one is to be configured that is not there.
        LifecycleError: scripts of a component that a stream names as its model cannot be read.
    """
    if unknown := sorted(deployment.components.keys() - resolution.components.keys()):
        raise DeploymentError(
            f"{', '.join(unknown)} cannot be configured: it is not deployed",
            hint="deploy it: name a version",
            code="COMPONENT_METADATA_NOT_VALID_IN_DEPLOYMENT",
        )
    planned: dict[str, Planned] = {}
    models: dict[str, str] = {}
    runtimes = frozenset(name for name, recipe in resolution.components.items() if _is_runtime(recipe))
    merged_ms = now_ms if nucleus.by_processing_time and now_ms is not None else deployment.timestamp_ms
    here = _Here(attributes, device, runtimes, nucleus, context, merged_ms)
    for name in reversed(resolution.order):
        old = active.components.get(name)
        before = configs.get(name) if old else None
        recipe = resolution.components[name]
        component = _planned(recipe, old, before, deployment, models, here)
        planned[name] = replace(component, action=Action.UPDATE) if old and name in broken else component
        if component.inference:
            models[component.inference.stream.model] = name
    components = tuple(_with_its_model(planned[name], planned) for name in resolution.order)
    return Plan(deployment, components, removed(active, resolution.components))


@dataclass(frozen=True, slots=True)
class _Here:
    """What every component of a plan has around it."""

    attributes: Attributes
    device: DeviceOf
    runtimes: frozenset[str]
    nucleus: NucleusSettings
    context: ContextOf
    merged_ms: int


def _planned(
    recipe: Recipe,
    old: Active | None,
    before: Tree | None,
    deployment: Deployment,
    models: Mapping[str, str],
    here: _Here,
) -> Planned:
    """``models`` are the components that streams name as their models, each with one of those streams."""
    manifest = platform.choose(recipe, here.attributes)
    request = deployment.components.get(recipe.name)
    after = configuration.update(
        before,
        reset=request.reset if request else (),
        defaults=recipe.configuration,
        merge=request.merge if request else None,
        # The order of documents is decided: what a deployment sets, it sets over what any clock said before, but for
        # what the component set itself.
        timestamp=max(here.merged_ms, before.newest_deployed if before else 0),
        former=old.recipe.configuration if old else None,
    )
    system = here.context(recipe.name, recipe.version) if here.nucleus.interpolate else None
    configured = Configured(after, system, since=before or Tree())
    plain = catalog.completed(recipe, configured.seen.to_plain())
    kind = kind_of(recipe, manifest, plain, models)
    run_with = ((request.run_with if request else None) or RunWith()).over(old.run_with if old else None)
    return Planned(
        action=_action(
            old, Active(recipe, manifest, kind, run_with), same=before is not None and same_values(before, after)
        ),
        kind=kind,
        recipe=recipe,
        manifest=manifest,
        old=old.recipe.version if old else None,
        configured=configured,
        run_with=run_with,
        model=model_of(recipe, manifest, plain) if kind is ComponentKind.MODEL else None,
        inference=_stream(recipe, plain, here) if kind is ComponentKind.INFERENCE else None,
        runtime=blocks.runtime(recipe.name, plain) if kind is ComponentKind.RUNTIME else None,
        nucleus=here.nucleus,
    )


def _stream(recipe: Recipe, plain: Mapping[str, Any], here: _Here) -> InferenceBlock:
    return blocks.inference(recipe.name, plain, recipe.dependencies, here.device(recipe.name), here.runtimes)


def _is_runtime(recipe: Recipe) -> bool:
    if recipe.type is ComponentType.GENERIC:
        return blocks.is_runtime(recipe.configuration)
    return recipe.type is ComponentType.RUNTIME


def _action(old: Active | None, new: Active, *, same: bool) -> Action:
    if old is None:
        return Action.INSTALL
    if replace(old, run_with=new.run_with) != new:
        return Action.UPDATE
    return Action.KEEP if same and (old.run_with or RunWith()) == new.run_with else Action.RECONFIGURE


def same_values(before: Tree, after: Tree) -> bool:
    """Whether two configurations are equal, whatever their timestamps; true is not 1."""
    one, other = (json.dumps(tree.to_plain(), sort_keys=True) for tree in (before, after))
    return one == other


def _with_its_model(component: Planned, planned: Mapping[str, Planned]) -> Planned:
    """A stream follows its model: it is reconfigured where that changes."""
    if component.action is not Action.KEEP or component.inference is None:
        return component
    model = planned[component.inference.stream.model]
    return component if model.action is Action.KEEP else replace(component, action=Action.RECONFIGURE)


def removed(active: ActiveSet, kept: Collection[str]) -> tuple[Removed, ...]:
    """What of the active set is not among the names that stay, dependers first."""
    gone = {name: component for name, component in sorted(active.components.items()) if name not in kept}
    graph = {name: sorted(gone.keys() & component.recipe.dependencies.keys()) for name, component in gone.items()}
    order = reversed(list(TopologicalSorter(graph).static_order()))
    return tuple(Removed(name, gone[name].recipe.version, gone[name].kind) for name in order)
