"""What commands show people: aligned, calm, and whole at 80 columns.  rich lays tables out to the terminal's width.

It is slow to import, so a command that can print JSON instead imports this module only where it shows a table.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agent.doctor.finding import size
from agent.inference.predictions import Box, Detection, Prediction, Tensor, Text, headline, numbers_of
from agent.inference.values import Answer, ModelMetadata, TensorMetadata

if TYPE_CHECKING:
    from agent.cli.models import BackendTrial
    from agent.cli.pictures import PictureResult
    from agent.errors import VergeError
    from agent.inference.tuning.values import Measured, Tuning
    from agent.results.result import Reason

__all__ = [
    "DEPLOYMENT_COLOURS",
    "coloured",
    "console",
    "show_answers",
    "show_executions",
    "show_groups",
    "show_job",
    "show_jobs",
    "show_model",
    "show_samples",
    "show_trials",
    "show_tuning",
    "table",
]

DEPLOYMENT_COLOURS = {
    "SUCCESSFUL": "green",
    "IN_PROGRESS": "cyan",
    "REJECTED": "yellow",
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
_BAR = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_VALUES = 4
_NAME = 32

Payload: TypeAlias = Mapping[str, Any]


def console() -> Console:
    """Standard output; colours and width are the terminal's."""
    return Console(highlight=False, emoji=False)


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
    return f"[{colours.get(state, 'default')}]{escape(state)}[/]"


# -- answers --------------------------------------------------------------------------------------------------


def show_model(model: ModelMetadata) -> None:
    """One line: which model answers, and what runs it."""
    name = f"{model.name} {model.version}".rstrip()
    ran = f"{model.backend} on {model.accelerator}, loaded in {model.load_ms:.0f} ms"
    console().print(f"[bold]{escape(name)}[/]  [dim]{escape(ran)}[/]\n")


def show_answers(results: Iterable[PictureResult]) -> None:
    """A row a prediction, best first; the picture's name and time stand in its first row."""
    answers = [(one, one.outcome) for one in results if isinstance(one.outcome, Answer)]
    boxes = any(_box(prediction) for _, answer in answers for prediction in answer.predictions)
    place = "x, y  width × height" if boxes else ""
    made = table(
        "image", "label", "score", place, "ms", right=("score", "ms"), whole=("image", *([place] if boxes else []))
    )
    for one, answer in answers:
        rows = [_row(prediction, answer, boxes=boxes) for prediction in answer.predictions] or [
            ("[dim]nothing[/]", "", "")
        ]
        for number, row in enumerate(rows):
            first = not number
            made.add_row(
                escape(_shortened(one.source.name)) if first else "", *row, f"{one.total_ms:.1f}" if first else ""
            )
    console().print(made)


def _tensor(info: TensorMetadata) -> str:
    """A tensor's type, shape and quantisation in a line."""
    line = f"{info.dtype} [{', '.join('?' if side < 0 else str(side) for side in info.shape)}]"
    if info.quantization:
        line += f", scale {info.quantization.scale:.6g}, zero point {info.quantization.zero_point}"
    return line


def _row(prediction: Prediction, answer: Answer, *, boxes: bool) -> tuple[str, str, str]:
    if isinstance(prediction, Tensor):
        numbers = _first(prediction.data if prediction.encoding is None else numbers_of(prediction))
        described = _tensor(TensorMetadata(prediction.name, prediction.shape, prediction.dtype))
        return escape(prediction.name), "", escape(f"{described}: {numbers}")
    name, score = headline(prediction)
    place = _place(_box(prediction), answer) if boxes else f"[green]{_bar(score or 0)}[/]"
    return escape(name), "" if score is None else f"{score:.3f}", place


def _shortened(name: str) -> str:
    """A name that fits a column: of a long path the end."""
    return name if len(name) <= _NAME else "…" + name[1 - _NAME :]


def _box(prediction: Prediction) -> Box | None:
    return prediction.box if isinstance(prediction, Detection | Text) else None


def _place(box: Box | None, answer: Answer) -> str:
    if box is None:
        return ""
    x, width = round(box.x * answer.width), round(box.width * answer.width)
    y, height = round(box.y * answer.height), round(box.height * answer.height)
    return f"{x:4d}, {y:<4d}  {width} × {height}"


def _bar(share: float) -> str:
    """A bar of ``_BAR`` cells for 1; eighths of a cell are seen."""
    eighths = round(max(0.0, min(1.0, share)) * _BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _first(data: Any) -> str:
    """The first values of nested lists."""
    values: list[Any] = [data]
    while values and isinstance(values[0], list):
        values = values[0]
    shown = ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values[:_VALUES])
    return shown + (", …" if len(values) > _VALUES else "")


# -- models ---------------------------------------------------------------------------------------------------


def show_samples(samples: Sequence[Mapping[str, Any]]) -> None:
    """A line a model."""
    made = table("sample", "model", "task", "size", right=("size",))
    for facts in samples:
        made.add_row(facts["sample"], f"{facts['name']} {facts['version']}", facts["task"], size(facts["bytes"]))
    console().print(made)
    console().print("\n[dim]More of one: verge models NAME.  Use one: verge infer --model NAME photo.jpg[/]")


def show_trials(facts: Mapping[str, Any], ran: ModelMetadata | None, trials: Sequence[BackendTrial]) -> None:
    """The model's facts, then a row a backend: whether it runs the model and how fast."""
    out = console()
    out.print(f"[bold]{escape(facts['name'])}[/] {escape(facts['version'])}\n")
    out.print(_about(facts, ran))
    out.print()
    out.print(_backends(trials))


def _about(facts: Mapping[str, Any], ran: ModelMetadata | None) -> Table:
    made = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    made.add_row("file", f"{escape(_near(facts['file']))} ({size(facts['bytes'])})")
    source = f" from {escape(Path(facts['labels_file']).name)}" if facts["labels_file"] else ""
    if ran is None:
        made.add_row("task", facts["task"])
        return made
    recognised = " (recognised from the outputs)" if facts["task"] == "auto" else ""
    made.add_row("digest", ran.digest)
    made.add_row("task", ran.task + recognised)
    made.add_row("labels", f"{ran.labels}{source}" if ran.labels else "none")
    for word, tensors in (("input", ran.inputs), ("output", ran.outputs)):
        for info in tensors:
            made.add_row(word, escape(f"{info.name}  {_tensor(info)}".strip()))
    return made


def _backends(trials: Sequence[BackendTrial]) -> Table:
    made = table("backend", "runs", "load ms", "infer ms", "", right=("load ms", "infer ms"))
    for trial in trials:
        model = trial.description
        if trial.error is None and model is not None:
            how = f"{escape(model.backend)} on {escape(model.accelerator)}"
            made.add_row(trial.backend, "[green]yes[/]", f"{model.load_ms:.0f}", f"{trial.infer_ms:.1f}", how)
        else:
            made.add_row(trial.backend, "[yellow]no[/]", "", "", _reason(trial.error))
    return made


def _reason(error: VergeError | None) -> str:
    if error is None:
        return ""
    message = escape(" ".join(error.message.split()))
    return message + (f"\n[dim]{escape(error.hint)}[/]" if error.hint else "")


def _near(path: str) -> str:
    """A path as seen from here, where that is shorter."""
    return min(path, os.path.relpath(path), key=len)


# -- tuning ---------------------------------------------------------------------------------------------------


def show_tuning(tuning: Tuning, kept: Path | None) -> None:
    """A row a combination, which one is chosen and why, which ones are out and why, and where all that is kept."""
    out = console()
    cpus, pictures = tuning.machine.cpus, len(tuning.pictures)
    machine = f"{tuning.machine.cpu}, {cpus} processor{'' if cpus == 1 else 's'}"
    measured = f"{pictures} picture{'' if pictures == 1 else 's'}, {tuning.took_s:g} s"
    out.print(f"[bold]{escape(tuning.model)}[/]  [dim]{escape(machine)}; {measured}[/]\n")
    fit = [measured for measured in tuning.measured if measured.fit]
    if fit:
        out.print(_figures(fit, pictures))
    for one in tuning.measured:
        if one.problem is not None:
            out.print(_problem(one, one.problem))
    if fit:
        out.print(f"\nchosen: [bold green]{escape(_combination(fit[0]))}[/],\nbecause {escape(tuning.reason)}")
    else:
        out.print("\nnothing is chosen" if tuning.measured else f"nothing is chosen: {escape(tuning.reason)}")
    if kept is not None:
        out.print(f"[dim]kept in {escape(str(kept))}[/]", soft_wrap=True)


def _figures(fit: Sequence[Measured], pictures: int) -> Table:
    numbers = ("median ms", "p95 ms", "network ms", "agrees")
    made = table("combination", *numbers, "", right=numbers)
    for one in sorted(fit, key=lambda measured: measured.median_ms):
        style, note = ("[bold]", "[green]chosen[/]") if one is fit[0] else ("[none]", "")
        figures = f"{one.median_ms:.2f}", f"{one.p95_ms:.2f}", f"{one.infer_ms:.2f}", f"{one.agreed}/{pictures}"
        made.add_row(f"{style}{escape(_combination(one))}[/]", *figures, note)
    return made


def _combination(measured: Measured) -> str:
    """The combination; where the backend chose the accelerator itself, with the one it took."""
    named = measured.placement
    ran_on = measured.ran_on
    return str(replace(named, accelerator=ran_on) if named.accelerator == "auto" and ran_on else named)


def _problem(measured: Measured, problem: Reason) -> str:
    line = f"[yellow]out: {escape(_combination(measured))}[/]: {escape(' '.join(problem.message.split()))}"
    return line + (f"\n[dim]     {escape(problem.hint)}[/]" if problem.hint else "")


# -- jobs -----------------------------------------------------------------------------------------------------


def show_jobs(jobs: Sequence[Payload]) -> None:
    """A row a job, newest first."""
    if not jobs:
        click.echo("no jobs")
        return
    made = table("job", "status", "targets", "things", "created")
    for job in jobs:
        targets = ", ".join(job["targets"]) + (" …" if job["targetSelection"] == "CONTINUOUS" else "")
        made.add_row(escape(job["jobId"]), _status(job), escape(targets), _things(job), _time(job["createdAt"]))
    console().print(made)


def show_job(job: Payload) -> None:
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


def show_executions(executions: Sequence[Payload]) -> None:
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
    return f"[{colour}]{status}[/]" if colour else str(status)


def _things(job: Payload) -> str:
    """How many things have which status, ended ones first: ``3 succeeded, 1 failed, 2 queued``."""
    counts = job["processDetails"]
    order = ("SUCCEEDED", "FAILED", "REJECTED", "TIMED_OUT", "CANCELED", "REMOVED", "IN_PROGRESS", "QUEUED", "WAITING")
    return ", ".join(f"{counts[key]} {key.lower().replace('_', ' ')}" for key in order if counts[key]) or "none"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
