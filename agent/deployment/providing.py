"""The environments of a set's runtime components: built before anything changes, found again at every start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from agent.deployment.environments import runtime_specs
from agent.deployment.layout import Layout
from agent.deployment.plan import Planned
from agent.runtimes.provider import Provider
from agent.runtimes.spec import Environment

__all__ = ["Environments"]

Tell = Callable[[str, str], None]
"""Hears of a component what is being done for it."""


class Environments:
    """Every runtime component's environment, by the component's name."""

    def __init__(self, provider: Provider, layout: Layout) -> None:
        self._provider = provider
        self._layout = layout

    async def provide(self, components: Iterable[Planned], tell: Tell) -> dict[str, Environment]:
        """Find or build what a set needs; raises ``RuntimeRefused``, or what could not be reached."""
        found: dict[str, Environment] = {}
        for name, spec in runtime_specs(components, self._layout).items():
            found[name] = await self._provider.provide(spec, partial(tell, name))
        return found

    def prune(self, kept: Iterable[Mapping[str, Environment]]) -> None:
        """Remove every environment but these."""
        self._provider.prune(each for one in kept for each in one.values())
