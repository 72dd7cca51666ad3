"""How deployments end: kept, complained about, or found interrupted when the agent starts."""

from __future__ import annotations

from agent.greengrass.deployments.activation import Change
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.ledger import Entry, Step
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome, failed
from agent.greengrass.deployments.request import Deployment
from agent.greengrass.deployments.state import State

__all__ = ["complaints", "interrupted", "outcome_of"]

_ATTEMPTS = 3
_NOTHING_CHANGED = frozenset((Step.RECEIVED, Step.RESOLVED, Step.STAGED))


def interrupted(entry: Entry) -> Outcome | None:
    """How a deployment ended that was under way when the agent died; None: it begins anew."""
    if entry.step in _NOTHING_CHANGED:
        if entry.attempts < _ATTEMPTS:
            return None
        status, again = DetailedStatus.FAILED_NO_STATE_CHANGE, f", {entry.attempts} times"
    else:
        status, again = DetailedStatus.FAILED_ROLLBACK_COMPLETE, ""
    error = DeploymentError(
        f"the agent ended while the deployment was {entry.step}{again}", code="DEPLOYMENT_INTERRUPTED"
    )
    return failed(status, error)


def outcome_of(change: Change) -> Outcome:
    """The end of a deployment that was made live."""
    if change.complaint is None:
        return Outcome(DetailedStatus.SUCCESSFUL)
    return failed(DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED, change.complaint)


def complaints(deployment: Deployment, active: State, error: Exception) -> dict[str, str]:
    """What the components that should have changed say of why they did not."""
    said = f"deployment {deployment.id} failed and what ran before runs on: {error}"
    return {name: said for name in deployment.wanted if name in active.active.components}
