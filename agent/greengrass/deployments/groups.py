"""What every group of deployments wants of this device, merged into one set of wishes.

A deployment says what *its* group wants from now on; what the other groups want stays.  A component that several want
has to satisfy them all.  Configuration comes from the deployment alone and is no matter of groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.greengrass.deployments.request import Deployment
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = ["Groups", "Wishes", "merge"]

Wishes = Mapping[str, Mapping[str, Requirement]]
"""Component → group → which versions it wants: the roots of a resolution."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Group → component → which versions it wants; a group that wants nothing is not there."""

    roots: Mapping[str, Mapping[str, Requirement]] = field(default_factory=dict)

    @property
    def wishes(self) -> Wishes:
        """The same by component."""
        turned: dict[str, dict[str, Requirement]] = {}
        for group, wanted in sorted(self.roots.items()):
            for name, requirement in wanted.items():
                turned.setdefault(name, {})[group] = requirement
        return turned

    def to_plain(self) -> dict[str, dict[str, str]]:
        """As data for a store."""
        return {
            group: {name: str(requirement) for name, requirement in wanted.items()}
            for group, wanted in self.roots.items()
        }

    @classmethod
    def of(cls, plain: Mapping[str, Mapping[str, str]]) -> Groups:
        """What ``to_plain`` gave.  Raises ``VersionError`` for a requirement that cannot be read."""
        return cls(
            {group: {name: Requirement.parse(text) for name, text in wanted.items()} for group, wanted in plain.items()}
        )


def merge(groups: Groups, deployment: Deployment, running: Mapping[str, Version]) -> tuple[Groups, Wishes]:
    """The groups once ``deployment`` is done, and what a resolution has to satisfy.

    An additive deployment keeps what its group wants already, at the version that is ``running``: it changes what it
    names and nothing else.
    """
    wanted = {name: each.requirement for name, each in deployment.wanted.items() if each.requirement}
    if deployment.additive:
        kept = {
            name: Requirement.parse(str(running[name])) if name in running else requirement
            for name, requirement in groups.roots.get(deployment.group, {}).items()
            if name not in deployment.remove
        }
        wanted = kept | wanted
    others = {group: roots for group, roots in groups.roots.items() if group != deployment.group}
    merged = Groups(others | ({deployment.group: wanted} if wanted else {}))
    return merged, merged.wishes
