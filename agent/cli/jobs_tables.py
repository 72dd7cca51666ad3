"""What ``verge jobs`` shows people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec
from rich.markup import escape

from agent.cli.tables import console, table

__all__ = ["show_executions", "show_groups", "show_job", "show_jobs", "show_json"]

_COLOURS = {
    "IN_PROGRESS": "cyan",
    "COMPLETED": "green",
    "SUCCEEDED": "green",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "REJECTED": "yellow",
    "CANCELED": "yellow",
    "REMOVED": "yellow",
}
Told = Mapping[str, Any]


def show_json(told: Any) -> None:
    """The answer as it came, for programs."""
    click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2))


def show_jobs(jobs: Sequence[Told]) -> None:
    """A row a job, newest first."""
    if not jobs:
        click.echo("no jobs")
        return
    made = table("job", "status", "targets", "things", "created")
    for job in jobs:
        targets = ", ".join(job["targets"]) + (" …" if job["targetSelection"] == "CONTINUOUS" else "")
        made.add_row(escape(job["jobId"]), _status(job), escape(targets), _things(job), _time(job["createdAt"]))
    console().print(made)


def show_job(job: Told) -> None:
    """A job's lines."""
    made = table("", "")
    made.show_header = False
    selection = job["targetSelection"].lower()
    made.add_row("job", f"[bold]{escape(job['jobId'])}[/]  {escape(job['description'])}".rstrip())
    made.add_row("status", _status(job) + (f" ({escape(job['reasonCode'])})" if job["reasonCode"] else ""))
    made.add_row("targets", f"{escape(', '.join(job['targets']))} ({selection})")
    if job["namespaceId"]:
        made.add_row("namespace", escape(job["namespaceId"]))
    made.add_row("things", _things(job))
    made.add_row("created", _time(job["createdAt"]))
    if job["completedAt"]:
        made.add_row("ended", _time(job["completedAt"]))
    for name, setting in _settings(job).items():
        if setting:
            made.add_row(name, setting)
    made.add_row("document", escape(msgspec.json.encode(job["document"]).decode()))
    console().print(made)


def show_executions(executions: Sequence[Told]) -> None:
    """A row an execution."""
    if not executions:
        click.echo("no executions yet")
        return
    made = table("thing", "run", "status", "version", "changed", "details", right=("run", "version"))
    for one in executions:
        details = ", ".join(f"{key}={value}" for key, value in one["statusDetails"].items())
        made.add_row(
            escape(one["thingName"]),
            str(one["executionNumber"]),
            _status(one),
            str(one["versionNumber"]),
            _time(one["lastUpdatedAt"]),
            escape(details),
        )
    console().print(made)


def show_groups(groups: Mapping[str, Sequence[str]]) -> None:
    """A row a group."""
    if not groups:
        click.echo("no groups")
        return
    made = table("group", "things")
    for name, things in groups.items():
        made.add_row(escape(name), escape(", ".join(things)))
    console().print(made)


def _settings(job: Told) -> dict[str, str]:
    """What was set, in words; empty where nothing was."""
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


def _rollout(config: Told) -> str:
    most = config.get("maximumPerMinute")
    growing = config.get("exponentialRate")
    if growing is None:
        return f"{most} a minute" if most else ""
    ((criterion, count),) = list(growing["rateIncreaseCriteria"].items())[:1] or [("numberOfNotifiedThings", 0)]
    each = "succeeded" if "Succeeded" in criterion else "notified"
    words = f"{growing['baseRatePerMinute']} a minute, times {growing['incrementFactor']:g} for each {count} {each}"
    return words + (f", {most} at most" if most else "")


def _word(failure: str) -> str:
    return "failed in any way" if failure == "ALL" else failure.lower().replace("_", " ")


def _status(told: Told) -> str:
    status = told["status"]
    colour = _COLOURS.get(status)
    return f"[{colour}]{status}[/]" if colour else str(status)


def _things(job: Told) -> str:
    """How many stand how, the end first: ``3 succeeded, 1 failed, 2 queued``."""
    counts = job["processDetails"]
    order = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED", "IN_PROGRESS", "QUEUED", "WAITING")
    return ", ".join(f"{counts[key]} {key.lower().replace('_', ' ')}" for key in order if counts[key]) or "none"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
