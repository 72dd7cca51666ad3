"""How every component of the device is, as fleet status messages tell it; see ``standing``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.greengrass.components.states import ComponentStatus
from agent.greengrass.deployments import state as states
from agent.greengrass.deployments.catalogue import BUILTINS
from agent.greengrass.fleet.report import ComponentHealth, health_of

__all__ = ["roster"]


def roster(
    active: states.State, standing: Mapping[str, ComponentStatus], arns: Mapping[str, str]
) -> dict[str, ComponentHealth]:
    """Every component by name; ``arns`` are the groups' configurations, by group."""
    wishes, every = active.groups.wishes, _arns(active.groups.roots, arns)
    return {
        name: health_of(
            status,
            root=name in wishes,
            arns=every if name in BUILTINS else _arns(wishes.get(name, ()), arns),
            system=name in BUILTINS,
        )
        for name, status in sorted(standing.items())
    }


def _arns(groups: Iterable[str], arns: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(arns[group] for group in sorted(groups) if group in arns)
