"""What is active on a device, what was before it, and what the last deployment failed to change.

``DeployedState`` is everything that a committed deployment leaves.  It is one value and one row of the ledger, so that
it changes as a whole.  ``DeviceState`` is the service's: there is one, and a deployment ends by giving the next.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import msgspec

from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.repository import BUILTINS
from agent.greengrass.deployments.request import Deployment, Groups, RunWith
from agent.greengrass.recipes import reader, writer
from agent.greengrass.recipes.configuration import ConfigurationCorruptError, Tree
from agent.greengrass.recipes.recipe import Manifest, Recipe
from agent.greengrass.recipes.versions import Version
from agent.inference.environments.spec import Environment

__all__ = ["Active", "ActiveSet", "DeployedState", "DeviceState", "loaded"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Active:
    """A component as it is now."""

    recipe: Recipe
    manifest: Manifest
    kind: ComponentKind
    run_with: RunWith | None = None


@dataclass(frozen=True, slots=True)
class ActiveSet:
    """The active components by name; none on a new device."""

    components: Mapping[str, Active] = field(default_factory=dict)

    @property
    def versions(self) -> dict[str, Version]:
        """What the resolver and the groups take for running."""
        return {name: active.recipe.version for name, active in self.components.items()}


@dataclass(frozen=True, slots=True)
class DeployedState:
    """The active set with its configuration, and what each group requires; an empty one is a new device's."""

    active: ActiveSet = field(default_factory=ActiveSet)
    configs: Mapping[str, Tree] = field(default_factory=dict)
    groups: Groups = field(default_factory=Groups)
    timestamps: Mapping[str, int] = field(default_factory=dict)
    """Group → the own time of its newest document, in milliseconds; 0 where none had one."""

    def configured(self, configs: Mapping[str, Tree]) -> DeployedState:
        """The same with configurations as they have become."""
        return replace(self, configs=configs)

    def dump(self) -> bytes:
        """As bytes for the ledger."""
        components = {
            name: {
                "recipe": None if name in BUILTINS else base64.b64encode(writer.dump(active.recipe)).decode(),
                "manifest": active.recipe.manifests.index(active.manifest),
                "kind": active.kind,
                "run_with": _plain(active.run_with),
                "configuration": self.configs[name].dump().decode() if name in self.configs else None,
            }
            for name, active in self.active.components.items()
        }
        return msgspec.json.encode(
            {"components": components, "groups": self.groups.to_plain(), "timestamps": dict(self.timestamps)}
        )

    @classmethod
    def load(cls, content: bytes | None) -> DeployedState:
        """What ``dump`` gave; an empty state for None."""
        if content is None:
            return cls()
        plain: dict[str, Any] = msgspec.json.decode(content)
        active, configs = {}, {}
        for name, component in plain["components"].items():
            recipe = _recipe(name, component["recipe"])
            active[name] = Active(
                recipe,
                recipe.manifests[component["manifest"]],
                ComponentKind(component["kind"]),
                _run_with(component["run_with"]),
            )
            if component["configuration"] is not None:
                configs[name] = Tree.load(component["configuration"])
        return cls(ActiveSet(active), configs, Groups.of(plain["groups"]), plain["timestamps"])


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What a device runs and what it ran before."""

    current: DeployedState = field(default_factory=DeployedState)
    previous: DeployedState | None = None
    """Where a rollback goes."""
    environments: Mapping[str, Environment] = field(default_factory=dict)
    """Of the runtime components of the current set."""
    last_failures: Mapping[str, str] = field(default_factory=dict)
    """Component → why the last deployment did not change it."""

    @property
    def sets(self) -> tuple[ActiveSet, ...]:
        """The active set, and the one before it."""
        return tuple(state.active for state in (self.current, self.previous) if state is not None)

    def touched(self, deployment: Deployment) -> frozenset[str]:
        """The components that a deployment may change: what it names, and what its group loses by it."""
        named = {*deployment.components, *deployment.remove, *(recipe.name for recipe in deployment.recipes)}
        if deployment.rollback:
            named |= {name for active in self.sets for name in active.components.keys() - BUILTINS.keys()}
        elif not deployment.additive:
            named |= self.current.groups.roots.get(deployment.group, {}).keys()
        return frozenset(named)

    def configured(self, configs: Mapping[str, Tree]) -> DeviceState:
        """The same with the current set's configurations as they have become."""
        return replace(self, current=self.current.configured(configs))

    def committed(self, state: DeployedState, environments: Mapping[str, Environment]) -> DeviceState:
        """The device once ``state`` is its current one."""
        # Only the set of a new device has no times.
        return DeviceState(state, self.current if self.current.timestamps else None, environments)

    def failed(self, deployment: Deployment, error: BaseException) -> DeviceState:
        """The device as it is, with the reason why ``deployment`` changed nothing of the components it names."""
        reason = f"deployment {deployment.id} failed and what ran before runs on: {error}"
        unchanged = deployment.components.keys() & self.current.active.components.keys()
        return replace(self, last_failures=dict.fromkeys(sorted(unchanged), reason))


def loaded(
    current: bytes | None, previous: bytes | None, configurations: Mapping[str, bytes] | None = None
) -> DeviceState:
    """The device as the ledger has it; a set that this program cannot read is logged, and none.

    ``configurations`` are those that components have changed since the current set was committed.
    """
    states: list[DeployedState | None] = []
    for content in (current, previous):
        try:
            states.append(DeployedState.load(content) if content is not None else None)
        except Exception:  # another version's, or damaged: what the configuration names runs all the same
            log.exception("a set in the ledger cannot be read; deploy again")
            states.append(None)
    deployed = states[0] or DeployedState()
    configs = {**deployed.configs, **_changed(deployed.active, configurations or {})}
    return DeviceState(deployed.configured(configs), states[1])


def _changed(active: ActiveSet, configurations: Mapping[str, bytes]) -> dict[str, Tree]:
    changed = {}
    for name in configurations.keys() & active.components.keys():
        try:
            changed[name] = Tree.load(configurations[name])
        except ConfigurationCorruptError as error:
            log.error("what %s has set of its configuration is lost: %s", name, error)  # noqa: TRY400 no fault of ours
    return changed


def _recipe(name: str, text: str | None) -> Recipe:
    return BUILTINS[name] if text is None else reader.parse(base64.b64decode(text), name)


# Ledgers of earlier versions hold ``given`` under this key.
_GIVEN = "said"


def _plain(run_with: RunWith | None) -> dict[str, Any] | None:
    if run_with is None:
        return None
    plain = asdict(run_with)
    given = plain.pop("given")
    del plain["whole"]  # it was, and is an override now
    return plain | {_GIVEN: sorted(given)}


def _run_with(plain: Mapping[str, Any] | None) -> RunWith | None:
    if plain is None:
        return None
    values = dict(plain)
    return RunWith(given=frozenset(values.pop(_GIVEN)), **values)
