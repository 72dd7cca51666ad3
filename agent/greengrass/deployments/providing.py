"""The environments of a set's runtime components: built before anything changes, found again at every start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from agent.greengrass.deployments.environments import runtime_specs
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.plan import Action, Planned
from agent.inference.environments.provider import Provider
from agent.inference.environments.shelf import roots_below
from agent.inference.environments.spec import Environment

__all__ = ["Environments"]

Tell = Callable[[str, str], None]
"""Hears of a component what is being done for it."""


class Environments:
    """Every runtime component's environment, by the component's name."""

    def __init__(self, provider: Provider, layout: Layout) -> None:
        self._provider = provider
        self._layout = layout

    async def provide(self, components: Iterable[Planned], tell: Tell) -> dict[str, Environment]:
        """Find or build what a set needs; raises ``UnsupportedRuntimeError``, or what could not be reached.

        What is kept as it is goes on with what served it.
        """
        planned = {each.name: each for each in components}
        found: dict[str, Environment] = {}
        for name, spec in runtime_specs(planned.values(), self._layout).items():
            kept = await self._provider.recall(spec) if planned[name].action is Action.KEEP else None
            found[name] = kept or await self._provider.provide(spec, partial(tell, name))
        return found

    def prune(self, kept: Iterable[Mapping[str, Environment]]) -> None:
        """Remove every environment but these; also what an earlier run of the agent left."""
        roots = roots_below(self._layout.root / "work")
        self._provider.prune((each for one in kept for each in one.values()), roots)
