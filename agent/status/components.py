"""Components as the agent's topics show them: one table of states for models, and one payload for all others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent.greengrass.components.states import ComponentStatus, State
from agent.inference.values import PoolState
from agent.results.result import utc

__all__ = ["POOL_STATES", "component_payload"]

POOL_STATES: Final[Mapping[PoolState, State]] = {
    PoolState.STARTING: State.STARTING,
    PoolState.RUNNING: State.RUNNING,
    PoolState.BACKOFF: State.ERRORED,
    PoolState.BROKEN: State.BROKEN,
    PoolState.STOPPED: State.FINISHED,
}
"""The state of a model's workers in the words of Greengrass."""


def component_payload(status: ComponentStatus, since: float) -> dict[str, Any]:
    """The payload of a component's topic; ``since`` is the Unix time of the last change."""
    reasons = [status.problem.reason if status.problem else "", status.note]
    reason = "; ".join(filter(None, reasons))
    return {"state": status.state.value, "version": status.version, "reason": reason, "since": utc(since)}
