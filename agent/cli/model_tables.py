"""What people are shown of models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from agent.cli.tables import console, table, tensor
from agent.cli.trials import Trial
from agent.doctor.finding import size
from agent.errors import VergeError
from agent.inference.values import Description

__all__ = ["show", "show_samples"]


def show_samples(samples: Sequence[Mapping[str, Any]]) -> None:
    """A line a model."""
    made = table("sample", "model", "task", "size", right=("size",))
    for told in samples:
        made.add_row(told["sample"], f"{told['name']} {told['version']}", told["task"], size(told["bytes"]))
    console().print(made)
    console().print("\n[dim]More of one: verge models NAME.  Use one: verge infer --model NAME photo.jpg[/]")


def show(facts: Mapping[str, Any], ran: Description | None, trials: Sequence[Trial]) -> None:
    """What the model is, then what each backend made of it."""
    out = console()
    out.print(f"[bold]{escape(facts['name'])}[/] {escape(facts['version'])}\n")
    out.print(_about(facts, ran))
    out.print()
    out.print(_backends(trials))


def _about(facts: Mapping[str, Any], ran: Description | None) -> Table:
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
        for told in tensors:
            made.add_row(word, escape(f"{told['name']}  {tensor(told)}".strip()))
    return made


def _backends(trials: Sequence[Trial]) -> Table:
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
