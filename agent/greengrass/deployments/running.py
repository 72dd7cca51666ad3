"""What the nucleus's configuration changes in the agent while it runs: its log, components' logs, the store, the fleet.

Followed whenever anything live changes; without the component, or without a key, the agent's own configuration holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.catalog import parts
from agent.greengrass.components.logs import FILE_BYTES, TOTAL_BYTES
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.configurations import Configurations
from agent.greengrass.deployments.nucleus import NucleusSettings
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes.configuration import Tree

__all__ = ["LiveSettings"]

log = logging.getLogger(__name__)


class LiveSettings:
    """Keeps the running agent as the live configuration says; ``cadence`` takes the fleet's, None for its own."""

    def __init__(
        self, configurations: Configurations, supervisor: Supervisor, cache: Cache,
        cadence: Callable[[float | None], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._configurations = configurations
        self._supervisor = supervisor
        self._cache = cache
        self._cadence = cadence
        self._settings = NucleusSettings()
        self._own_level: int | None = None
        """What the agent logged before the configuration said otherwise."""
        configurations.follow(self._follow)
        self._follow()

    def _follow(self) -> None:
        try:
            settings = NucleusSettings.of(self._configurations.get(parts.NUCLEUS) or Tree())
        except DeploymentError as error:  # a deployment with it was refused; an older agent may have stored it
            log.warning("what is configured stays as it was: %s", error)
            return
        if settings == self._settings:
            return
        self._settings = settings
        self._log_from(settings.log_level)
        file_bytes = settings.log_file_bytes or FILE_BYTES
        self._supervisor.bound_logs(file_bytes, max(settings.log_total_bytes or TOTAL_BYTES, file_bytes))
        self._cache.limit(settings.store_bytes)
        self._cadence(settings.cadence_s)

    def _log_from(self, level: str) -> None:
        root = logging.getLogger()
        if level:
            self._own_level = root.level if self._own_level is None else self._own_level
            root.setLevel(level)
        elif self._own_level is not None:
            root.setLevel(self._own_level)
            self._own_level = None
