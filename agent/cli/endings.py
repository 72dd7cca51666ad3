"""How a deployment ended: for programs as JSON and an exit status, for people in a few lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import msgspec
from rich.markup import escape

from agent.cli.tables import console, table

__all__ = ["COLOURS", "Ending", "show", "show_rollout"]

COLOURS = {
    "SUCCESSFUL": "green",
    "IN_PROGRESS": "cyan",
    "REJECTED": "yellow",
    "FAILED_NO_STATE_CHANGE": "red",
    "FAILED_ROLLBACK_COMPLETE": "red",
    "FAILED_ROLLBACK_NOT_REQUESTED": "red",
    "FAILED_UNABLE_TO_ROLLBACK": "red",
}
_MEANS = {
    "FAILED_NO_STATE_CHANGE": "nothing was changed",
    "FAILED_ROLLBACK_COMPLETE": "what was live before is live again",
    "FAILED_ROLLBACK_NOT_REQUESTED": "the new set stays, as it was asked to",
    "FAILED_UNABLE_TO_ROLLBACK": "what was live before could not be put back",
    "REJECTED": "it was not taken up",
}
_EXIT = {"SUCCESSFUL": 0, "REJECTED": 2}


@dataclass(frozen=True, slots=True)
class Ending:
    """The agent's last word, how long it took, and what it said it would do."""

    thing: str
    told: Mapping[str, Any]
    seconds: float
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """In Greengrass's words."""
        return str(self.told.get("detailedStatus", ""))

    @property
    def exit_status(self) -> int:
        """0 when it is live, 2 when it was not taken up, 1 for everything else."""
        return _EXIT.get(self.status, 1)

    def plain(self) -> dict[str, Any]:
        """All of it."""
        planned = {key: self.plan[key] for key in ("components", "removed") if key in self.plan}
        return {"thing": self.thing, **self.told, "seconds": round(self.seconds, 3), **planned}


def show(ending: Ending, *, as_json: bool) -> None:
    """Print it on standard output."""
    if as_json:
        click.echo(msgspec.json.encode(ending.plain()))
        return
    out = console()
    said = f"[{COLOURS.get(ending.status, 'red')}]{escape(ending.status)}[/]"
    means = f", {_MEANS[ending.status]}" if ending.status in _MEANS else ""
    out.print(f"{escape(ending.thing)}: {said} in {ending.seconds:.2f} s{means}", soft_wrap=True)
    if cause := ending.told.get("cause") or ending.told.get("failureCause"):
        out.print(f"  {escape(str(cause))}", soft_wrap=True)
    if hint := ending.told.get("hint"):
        out.print(f"  {escape(str(hint))}", style="dim", soft_wrap=True)
    if rows := _rows(ending.plan):
        made = table("component", "action", "version", whole=("action", "version"))
        for row in rows:
            made.add_row(*map(escape, row))
        out.print(made)


def show_rollout(job: Mapping[str, Any], executions: Sequence[Mapping[str, Any]]) -> None:
    """How a job ended on each thing, and why so."""
    out = console()
    out.print(f"job {escape(job['jobId'])}: {escape(job['status'])}", soft_wrap=True)
    made, reasons = table("thing", "status", "run", right=("run",)), []
    for each in executions:
        details = each["statusDetails"]
        status = details.get("detailed-deployment-status", each["status"])
        shown = f"[{COLOURS.get(status, 'default')}]{escape(status)}[/]"
        made.add_row(escape(each["thingName"]), shown, str(each["executionNumber"]))
        if cause := details.get("deployment-failure-cause"):
            reasons.append(f"{each['thingName']}: {cause}")
    if executions:
        out.print(made)
    for reason in reasons:
        out.print(escape(reason), soft_wrap=True)


def _rows(plan: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    actions = {name: action.partition(" ") for name, action in plan.get("components", {}).items()}
    return [(name, action, version) for name, (action, _, version) in actions.items()] + [
        (name, "remove", "") for name in plan.get("removed", ())
    ]
