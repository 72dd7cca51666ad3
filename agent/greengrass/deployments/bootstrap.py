"""Bootstrap steps: which of them a deployment has to run, and what their exit statuses ask for.

A component's Bootstrap is run before the new set is made live, beside what is live, when the component is new, comes in
another version, or its step has changed; dependencies first.  The status of the script says what has to follow:

=========  =========================================================================
status     what follows
=========  =========================================================================
0          nothing
100        the agent is started again before the deployment goes on
101        the device is
any other  the deployment fails (``COMPONENT_BOOTSTRAP_ERROR``, ``…_TIMEOUT``)
=========  =========================================================================

All are run before one restart that they ask for.  When the deployment fails after that, the Bootstrap of the version
before is run where its recipe says ``BootstrapOnRollback``.  The rules are Greengrass's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum

from agent.greengrass.components.order import start_order
from agent.greengrass.components.runner import StepOutcome, StepResult
from agent.greengrass.components.spec import ComponentSpec
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes.lifecycle import StepName

__all__ = ["RestartScope", "needed", "needed_back", "restart", "status_of", "task"]


class RestartScope(IntEnum):
    """What has to be started again; the values are exit statuses, of scripts and of the agent that leaves for it."""

    AGENT = 100
    DEVICE = 101


def task(spec: ComponentSpec) -> str:
    """What a Bootstrap that was run is remembered by."""
    return f"{spec.name}@{spec.version}"


def needed(live: Mapping[str, ComponentSpec], target: Mapping[str, ComponentSpec]) -> Sequence[ComponentSpec]:
    """The components of the new set whose Bootstrap has to be run, dependencies first."""
    return [spec for spec in _in_order(target) if _is_new(live.get(spec.name), spec)]


def needed_back(live: Mapping[str, ComponentSpec], ran: Collection[str]) -> Sequence[ComponentSpec]:
    """The components, live again, that run their Bootstrap because another version of them ran its own."""
    steps = ((spec, spec.lifecycle.steps.get(StepName.BOOTSTRAP)) for spec in _in_order(live))
    return [spec for spec, step in steps if step is not None and step.on_rollback and spec.name in ran]


def status_of(spec: ComponentSpec, outcome: StepOutcome, hint: str) -> int:
    """The status of a Bootstrap that was run.  Raises ``DeploymentError``, with the ``hint``, for one that failed."""
    if outcome.result is not StepResult.FAILED or outcome.status in set(RestartScope):
        return outcome.status or 0
    reason = outcome.problem.reason if outcome.problem else "it failed"
    code = "COMPONENT_BOOTSTRAP_ERROR" if outcome.status is not None else "COMPONENT_BOOTSTRAP_TIMEOUT"
    raise DeploymentError(f"{spec.name} {spec.version}: {reason}", code=code, hint=hint)


def restart(statuses: Iterable[int]) -> RestartScope | None:
    """What these statuses ask for, the device before the agent."""
    asked = set(statuses)
    return next((one for one in (RestartScope.DEVICE, RestartScope.AGENT) if one in asked), None)


def _in_order(specs: Mapping[str, ComponentSpec]) -> list[ComponentSpec]:
    return [specs[name] for name in start_order({name: spec.hard for name, spec in specs.items()})]


def _is_new(old: ComponentSpec | None, new: ComponentSpec) -> bool:
    step = new.lifecycle.steps.get(StepName.BOOTSTRAP)
    if step is None:
        return False
    return old is None or old.version != new.version or old.lifecycle.steps.get(StepName.BOOTSTRAP) != step
