"""What commands show people: aligned, calm, and whole at 80 columns.  rich lays tables out to the terminal's width.

It is slow to import, so a command that can print JSON instead imports this module only where it shows a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec.structs import replace
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.markup import escape
from rich.segment import Segment
from rich.table import Table

from agent.cli.output import echo
from agent.text import shown

if TYPE_CHECKING:
    from agent.inference.tuning.values import Measured, Tuning
    from agent.results.result import Reason

__all__ = [
    "DEPLOYMENT_COLOURS",
    "cell",
    "coloured",
    "console",
    "show_executions",
    "show_groups",
    "show_job",
    "show_jobs",
    "show_tuning",
    "table",
]

DEPLOYMENT_COLOURS = {
    "SUCCESSFUL": "green",
    "IN_PROGRESS": "cyan",
    "QUEUED": "cyan",
    "REJECTED": "yellow",
    "CANCELED": "yellow",
    "FAILED_NO_STATE_CHANGE": "red",
    "FAILED_ROLLBACK_COMPLETE": "red",
    "FAILED_ROLLBACK_NOT_REQUESTED": "red",
    "FAILED_UNABLE_TO_ROLLBACK": "red",
}
_JOB_COLOURS = {
    "IN_PROGRESS": "cyan",
    "COMPLETED": "green",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "REJECTED": "yellow",
    "CANCELED": "yellow",
    "REMOVED": "yellow",
}

Payload: TypeAlias = Mapping[str, Any]


def console(*, stderr: bool = False) -> Console:
    """Standard output or error; colours and width are the terminal's, and what would act on it is shown."""
    made = Console(stderr=stderr, highlight=False, emoji=False)
    made.push_render_hook(_Guard())
    return made


def cell(value: object) -> str:
    """A value as part of a line or table: neither rich's markup nor a terminal's characters mean anything in it."""
    return escape(shown(str(value)))


class _Guard(RenderHook):
    """The last look at everything that is printed: ``cell`` may have been forgotten somewhere."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Guarded(renderable) for renderable in renderables]


class _Guarded:
    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._inner, options):
            yield segment if segment.control else Segment(shown(segment.text, keep="\n"), segment.style)


def table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    """A table without lines; ``right`` names the columns of numbers, ``whole`` others that are not broken."""
    made = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        made.add_column(
            name, justify="right" if name in right else "left", no_wrap=name in (*right, *whole), overflow="fold"
        )
    return made


def coloured(payload: Payload, colours: Mapping[str, str]) -> str:
    """A payload's state in its colour."""
    state = str(payload.get("state", ""))
    return f"[{colours.get(state, 'default')}]{cell(state)}[/]"


# -- tuning ---------------------------------------------------------------------------------------------------


def show_tuning(tuning: Tuning, kept: Path | None) -> None:
    """A row a combination, which one is chosen and why, which ones are out and why, and where all that is kept."""
    out = console()
    cpus, pictures = tuning.machine.cpus, len(tuning.pictures)
    machine = f"{tuning.machine.cpu}, {cpus} processor{'' if cpus == 1 else 's'}"
    measured = f"{pictures} picture{'' if pictures == 1 else 's'}, {tuning.took_s:g} s"
    out.print(f"[bold]{cell(tuning.model)}[/]  [dim]{cell(machine)}; {measured}[/]\n")
    fit = [measured for measured in tuning.measured if measured.fit]
    if fit:
        out.print(_figures(fit, pictures))
    for one in tuning.measured:
        if one.problem is not None:
            out.print(_problem(one, one.problem))
    if fit:
        out.print(f"\nchosen: [bold green]{cell(_combination(fit[0]))}[/],\nbecause {cell(tuning.reason)}")
    else:
        out.print("\nnothing is chosen" if tuning.measured else f"nothing is chosen: {cell(tuning.reason)}")
    if kept is not None:
        out.print(f"[dim]kept in {cell(str(kept))}[/]", soft_wrap=True)


def _figures(fit: Sequence[Measured], pictures: int) -> Table:
    numbers = ("median ms", "p95 ms", "network ms", "agrees")
    made = table("combination", *numbers, "", right=numbers)
    for one in sorted(fit, key=lambda measured: measured.median_ms):
        style, note = ("[bold]", "[green]chosen[/]") if one is fit[0] else ("[none]", "")
        figures = f"{one.median_ms:.2f}", f"{one.p95_ms:.2f}", f"{one.infer_ms:.2f}", f"{one.agreed}/{pictures}"
        made.add_row(f"{style}{cell(_combination(one))}[/]", *figures, note)
    return made


def _combination(measured: Measured) -> str:
    """The combination; where the backend chose the accelerator itself, with the one it took."""
    named = measured.placement
    ran_on = measured.ran_on
    return str(replace(named, accelerator=ran_on) if named.accelerator == "auto" and ran_on else named)


def _problem(measured: Measured, problem: Reason) -> str:
    line = f"[yellow]out: {cell(_combination(measured))}[/]: {cell(' '.join(problem.message.split()))}"
    return line + (f"\n[dim]     {cell(problem.hint)}[/]" if problem.hint else "")


# -- jobs -----------------------------------------------------------------------------------------------------


def show_jobs(jobs: Sequence[Payload]) -> None:
    """A row a job, newest first."""
    if not jobs:
        echo("no jobs")
        return
    made = table("job", "status", "targets", "things", "created")
    for job in jobs:
        targets = ", ".join(job["targets"]) + (" …" if job["targetSelection"] == "CONTINUOUS" else "")
        made.add_row(cell(job["jobId"]), _status(job), cell(targets), _things(job), _time(job["createdAt"]))
    console().print(made)


def show_job(job: Payload) -> None:
    """A job's lines."""
    made = table("", "")
    made.show_header = False
    selection = job["targetSelection"].lower()
    made.add_row("job", f"[bold]{cell(job['jobId'])}[/]  {cell(job['description'])}".rstrip())
    made.add_row("status", _status(job) + (f" ({cell(job['reasonCode'])})" if job["reasonCode"] else ""))
    made.add_row("targets", f"{cell(', '.join(job['targets']))} ({selection})")
    if job["namespaceId"]:
        made.add_row("namespace", cell(job["namespaceId"]))
    made.add_row("things", _things(job))
    made.add_row("created", _time(job["createdAt"]))
    if job["completedAt"]:
        made.add_row("ended", _time(job["completedAt"]))
    for name, setting in _settings(job).items():
        if setting:
            made.add_row(name, setting)
    made.add_row("document", cell(msgspec.json.encode(job["document"]).decode()))
    console().print(made)


def show_executions(executions: Sequence[Payload]) -> None:
    """A row an execution."""
    if not executions:
        echo("no executions yet")
        return
    made = table("thing", "run", "status", "version", "changed", "details", right=("run", "version"))
    for one in executions:
        details = ", ".join(f"{key}={value}" for key, value in one["statusDetails"].items())
        made.add_row(
            cell(one["thingName"]),
            str(one["executionNumber"]),
            _status(one),
            str(one["versionNumber"]),
            _time(one["lastUpdatedAt"]),
            cell(details),
        )
    console().print(made)


def show_groups(groups: Mapping[str, Sequence[str]]) -> None:
    """A row a group."""
    if not groups:
        echo("no groups")
        return
    made = table("group", "things")
    for name, things in groups.items():
        made.add_row(cell(name), cell(", ".join(things)))
    console().print(made)


def _settings(job: Payload) -> dict[str, str]:
    """The settings in words; empty where nothing was set."""
    timeout = job["timeoutConfig"].get("inProgressTimeoutInMinutes")
    aborts, retries = job["abortConfig"], job["jobExecutionsRetryConfig"]
    return {
        "roll-out": _rollout(job["jobExecutionsRolloutConfig"]),
        "abort": ", ".join(
            f"{one['thresholdPercentage']:g} % {_word(one['failureType'])} of at least"
            f" {one.get('minNumberOfExecutedThings', 1)}"
            for one in aborts.get("criteriaList", ())
        ),
        "time-out": f"{timeout:g} minutes" if timeout else "",
        "retries": ", ".join(
            f"{one['numberOfRetries']} ({_word(one['failureType'])})" for one in retries.get("criteriaList", ())
        ),
    }


def _rollout(config: Payload) -> str:
    most = config.get("maximumPerMinute")
    growing = config.get("exponentialRate")
    if growing is None:
        return f"{most} a minute" if most else ""
    ((criterion, count),) = list(growing["rateIncreaseCriteria"].items())[:1] or [("numberOfNotifiedThings", 0)]
    event = "succeeded" if "Succeeded" in criterion else "notified"
    words = f"{growing['baseRatePerMinute']} a minute, times {growing['incrementFactor']:g} for each {count} {event}"
    return words + (f", {most} at most" if most else "")


def _word(failure: str) -> str:
    return "failed in any way" if failure == "ALL" else failure.lower().replace("_", " ")


def _status(job: Payload) -> str:
    status = job["status"]
    colour = _JOB_COLOURS.get(status)
    return f"[{colour}]{cell(status)}[/]" if colour else cell(status)


def _things(job: Payload) -> str:
    """How many things have which status, ended ones first: ``3 succeeded, 1 failed, 2 queued``."""
    counts = job["processDetails"]
    order = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED", "IN_PROGRESS", "QUEUED", "WAITING")
    return (
        ", ".join(f"{cell(counts[key])} {key.lower().replace('_', ' ')}" for key in order if counts.get(key)) or "none"
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
