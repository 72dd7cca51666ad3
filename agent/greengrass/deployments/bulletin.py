"""The retained topics of components that are neither scripts nor loaded models: streams, runtimes, servers.

Scripts tell of themselves through their supervisor, models through their workers; a model's note goes along with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.greengrass.components.states import ComponentStatus
from agent.greengrass.deployments.plan import Kind
from agent.greengrass.deployments.watcher import End
from agent.results.result import utc
from agent.status.board import StatusBoard

__all__ = ["Bulletin", "told"]

_OURS = frozenset((Kind.INFERENCE, Kind.RUNTIME, Kind.SERVER))

Present = Callable[[], Mapping[str, tuple[Kind, ComponentStatus]]]


def told(status: ComponentStatus, since: float) -> dict[str, Any]:
    """The payload of a component's topic; ``since`` is the Unix time of the last change."""
    said = [status.problem.reason if status.problem else "", status.note]
    reason = "; ".join(filter(None, said))
    return {"state": status.state.value, "version": status.version, "reason": reason, "since": utc(since)}


class Bulletin:
    """Publishes what has changed, and nothing else; a ``Watcher`` of deployments."""

    def __init__(self, board: StatusBoard, present: Present) -> None:
        self._board = board
        self._present = present
        self._said: dict[str, ComponentStatus] = {}

    def began(self) -> None:
        """A deployment is under way."""

    def ended(self, end: End) -> None:
        """A deployment is over."""
        del end
        self.changed()

    def changed(self) -> None:
        """Look at everything, and tell what is new."""
        present = self._present()
        for name, (kind, status) in present.items():
            if kind is Kind.MODEL:
                self._board.annotate(name, status.note)
        now = {name: status for name, (kind, status) in present.items() if kind in _OURS}
        for name in self._said.keys() - now.keys():
            del self._said[name]
            self._board.forget(name)
        for name, status in now.items():
            if self._said.get(name) != status:
                self._said[name] = status
                self._board.component(name, told(status, time.time()))
