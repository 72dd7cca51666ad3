"""The models of the components that are deployed now, for whoever runs them beside streams.

A model that no stream uses is deployed all the same.  A component of plain files is taken for one where it holds one:
Amazon's packaging jobs make such components, without a type or a block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from agent.errors import VergeError
from agent.greengrass.deployments import blocks
from agent.greengrass.deployments.kinds import ComponentKind, only_files
from agent.greengrass.deployments.plan import Planned
from agent.greengrass.deployments.state import DeviceState
from agent.greengrass.deployments.target import model_alone
from agent.greengrass.deployments.transaction import Workspace
from agent.inference.environments.spec import Environment
from agent.inference.manifest import ModelSpec

__all__ = ["DeployedModels"]

log = logging.getLogger(__name__)


@dataclass(slots=True)
class DeployedModels:
    """Component → its model; looked for again only when something else is deployed."""

    workspace: Workspace
    state: Callable[[], DeviceState]
    """The device now."""
    _seen: DeviceState | None = None
    _models: Mapping[str, ModelSpec] = field(default_factory=dict)

    def __call__(self) -> Mapping[str, ModelSpec]:
        """Those that are deployed now; a model that is not where it should be is logged, and left out."""
        now = self.state()
        if self._seen is None or not _same(self._seen, now):
            self._seen, self._models = now, self._find(now)
        return self._models

    def _find(self, state: DeviceState) -> Mapping[str, ModelSpec]:
        if not state.current.active.components:
            return {}
        try:
            planned = self.workspace.kept(state.current).components
        except VergeError as error:
            log.warning("the models of components cannot be found: %s", error)
            return {}
        return dict(self._specs(planned, state.environments))

    def _specs(
        self, planned: Iterable[Planned], environments: Mapping[str, Environment]
    ) -> Iterable[tuple[str, ModelSpec]]:
        for component in planned:
            told = component.kind is ComponentKind.MODEL
            if not told and not (
                component.kind is ComponentKind.GENERIC and only_files(component.recipe, component.manifest)
            ):
                continue
            candidate = component if told else replace(component, model=blocks.ModelBlock())
            try:
                yield component.name, model_alone(candidate, self.workspace.layout, environments, self.workspace.user)
            except (VergeError, OSError) as error:
                log.log(
                    logging.WARNING if told else logging.DEBUG,
                    "the model of %s cannot be found: %s", component.name, error,
                )  # fmt: skip


def _same(one: DeviceState, other: DeviceState) -> bool:
    return (
        one.current.active is other.current.active
        and one.environments is other.environments
        and one.current.configs == other.current.configs
    )
