"""The order that HARD dependencies impose: dependencies start first, dependers stop first.

A graph maps each component to the components it depends on HARD.  What is not in the graph itself (a built-in
component, one that another party provides) is taken for ready.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from graphlib import CycleError, TopologicalSorter

from agent.greengrass.components.errors import ComponentError

__all__ = ["Graph", "dependers", "longest", "ready", "start_order"]

Graph = Mapping[str, Collection[str]]


def start_order(graph: Graph) -> list[str]:
    """Every component after those it depends on; reversed it is the order to stop in.

    Raises ``ComponentError`` when the dependencies go in a circle.
    """
    known = {name: sorted(need for need in needs if need in graph) for name, needs in sorted(graph.items())}
    try:
        return list(TopologicalSorter(known).static_order())
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise ComponentError(
            f"HARD dependencies go in a circle: {circle}",
            code="dependency-circle",
            hint="make one of them SOFT: a SOFT dependency does not delay the start",
        ) from None


def dependers(graph: Graph, name: str) -> set[str]:
    """The components that depend on this one directly."""
    return {depender for depender, needs in graph.items() if name in needs}


def ready(graph: Graph, name: str, satisfied: Collection[str]) -> bool:
    """Whether every HARD dependency of a component is among the satisfied ones."""
    return all(need in satisfied for need in graph[name] if need in graph)


def longest(graph: Graph, lasts: Mapping[str, float]) -> float:
    """How long it takes at most until all are stopped, each after its dependers, when each one ``lasts`` so long."""
    ends: dict[str, float] = {}
    for name in reversed(start_order(graph)):
        ends[name] = lasts[name] + max((ends[depender] for depender in dependers(graph, name)), default=0.0)
    return max(ends.values(), default=0.0)
