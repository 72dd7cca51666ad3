"""The seam between the lifecycle and what is run: whatever performs steps and can be killed is a component."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from agent.greengrass.components.spec import ComponentSpec
from agent.greengrass.components.states import Problem, StatusCode
from agent.greengrass.recipes.lifecycle import StepName

__all__ = ["NOTHING", "OK", "Runner", "StepOutcome", "StepResult", "failed"]


class StepResult(StrEnum):
    """How a step ended."""

    OK = "ok"
    NOTHING = "nothing to do"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """How a step ended, and why when it failed; ``status`` is its script's, where there was one that ended."""

    result: StepResult
    problem: Problem | None = None
    status: int | None = None


OK = StepOutcome(StepResult.OK)
NOTHING = StepOutcome(StepResult.NOTHING)

_CODES: Mapping[tuple[StepName, str], StatusCode] = {
    (step, suffix): StatusCode(f"{step.upper()}_{suffix}")
    for step in StepName
    for suffix in ("ERROR", "TIMEOUT", "IO_ERROR", "MISSING_DEFAULT_RUNWITH")
    if f"{step.upper()}_{suffix}" in set(StatusCode)
}


def failed(step: StepName, suffix: str, reason: str, status: int | None = None) -> StepOutcome:
    """A failure under the step's own code; a step that has no code of that kind uses its ``…_ERROR``, or RUN's."""
    code = _CODES.get((step, suffix)) or _CODES.get((step, "ERROR")) or StatusCode.RUN_ERROR
    return StepOutcome(StepResult.FAILED, Problem(code, reason), status)


class Runner(Protocol):
    """Performs the steps of one component."""

    async def perform(self, step: StepName, spawned: Callable[[], None]) -> StepOutcome:
        """Perform a step to its end; of Run, call ``spawned`` once it is under way.

        May be cancelled, and is killed then.  A ``VergeError`` is a failure like any other.
        """

    async def kill(self) -> None:
        """End everything that belongs to the component, and return when it is gone."""

    async def freeze(self) -> None:
        """Have everything that belongs to the component stand still; raises ``OSError``."""

    async def thaw(self) -> None:
        """Have it go on; raises ``OSError``."""

    def update(self, spec: ComponentSpec) -> str:
        """Be what ``spec`` says from the next step on, with its limits at once; say what of it is not possible here."""
