"""Everything that a committed deployment leaves: the set, its configuration, and what each group wants.

It is one value and one row of the ledger, so that it changes as a whole.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from agent.greengrass.deployments.catalogue import BUILTINS
from agent.greengrass.deployments.groups import Groups
from agent.greengrass.deployments.plan import Active, ActiveSet, Kind
from agent.greengrass.deployments.request import RunWith
from agent.greengrass.recipes import reader, writer
from agent.greengrass.recipes.configuration import Tree
from agent.greengrass.recipes.recipe import Recipe

__all__ = ["State"]


@dataclass(frozen=True, slots=True)
class State:
    """The active set of a device; an empty one is a new device's."""

    active: ActiveSet = field(default_factory=ActiveSet)
    configs: Mapping[str, Tree] = field(default_factory=dict)
    groups: Groups = field(default_factory=Groups)
    timestamps: Mapping[str, int] = field(default_factory=dict)
    """Group → the time of its last deployment, in milliseconds."""

    def dump(self) -> bytes:
        """As bytes for the ledger."""
        components = {
            name: {
                "recipe": None if name in BUILTINS else base64.b64encode(writer.dump(each.recipe)).decode(),
                "manifest": each.recipe.manifests.index(each.manifest),
                "kind": each.kind,
                "run_with": _plain(each.run_with),
                "configuration": self.configs[name].dump().decode() if name in self.configs else None,
            }
            for name, each in self.active.components.items()
        }
        return msgspec.json.encode(
            {"components": components, "groups": self.groups.to_plain(), "timestamps": dict(self.timestamps)}
        )

    @classmethod
    def load(cls, content: bytes | None) -> State:
        """What ``dump`` gave; an empty state for None."""
        if content is None:
            return cls()
        told: dict[str, Any] = msgspec.json.decode(content)
        active, configs = {}, {}
        for name, each in told["components"].items():
            recipe = _recipe(name, each["recipe"])
            active[name] = Active(
                recipe, recipe.manifests[each["manifest"]], Kind(each["kind"]), _run_with(each["run_with"])
            )
            if each["configuration"] is not None:
                configs[name] = Tree.load(each["configuration"])
        return cls(ActiveSet(active), configs, Groups.of(told["groups"]), told["timestamps"])


def _recipe(name: str, text: str | None) -> Recipe:
    return BUILTINS[name] if text is None else reader.parse(base64.b64decode(text), name)


def _plain(run_with: RunWith | None) -> dict[str, Any] | None:
    return asdict(run_with) | {"said": sorted(run_with.said)} if run_with else None


def _run_with(plain: Mapping[str, Any] | None) -> RunWith | None:
    return RunWith(**(dict(plain) | {"said": frozenset(plain["said"])})) if plain else None
