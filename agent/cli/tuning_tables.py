"""What people are shown of a tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace
from rich.markup import escape
from rich.table import Table

from agent.cli.tables import console, table
from agent.inference.tuning.values import Measured, Tuning
from agent.results.result import Reason

__all__ = ["show"]


def show(tuning: Tuning, kept: Path | None) -> None:
    """A line a combination, which one is chosen and why, what is out and why, and where all that is kept."""
    out = console()
    cpus, pictures = tuning.machine.cpus, len(tuning.pictures)
    machine = f"{tuning.machine.cpu}, {cpus} processor{'' if cpus == 1 else 's'}"
    measured = f"{pictures} picture{'' if pictures == 1 else 's'}, {tuning.took_s:g} s"
    out.print(f"[bold]{escape(tuning.model)}[/]  [dim]{escape(machine)}; {measured}[/]\n")
    fit = [each for each in tuning.measured if each.fit]
    if fit:
        out.print(_figures(fit, pictures))
    for each in tuning.measured:
        if each.problem is not None:
            out.print(_problem(each, each.problem))
    if fit:
        out.print(f"\nchosen: [bold green]{escape(_name(fit[0]))}[/],\nbecause {escape(tuning.reason)}")
    else:
        out.print("\nnothing is chosen" if tuning.measured else f"nothing is chosen: {escape(tuning.reason)}")
    if kept is not None:
        out.print(f"[dim]kept in {escape(str(kept))}[/]", soft_wrap=True)


def _figures(fit: Sequence[Measured], pictures: int) -> Table:
    numbers = ("median ms", "p95 ms", "network ms", "agrees")
    made = table("combination", *numbers, "", right=numbers)
    for each in sorted(fit, key=lambda one: one.median_ms):
        style, note = ("[bold]", "[green]chosen[/]") if each is fit[0] else ("[none]", "")
        figures = f"{each.median_ms:.2f}", f"{each.p95_ms:.2f}", f"{each.infer_ms:.2f}", f"{each.agreed}/{pictures}"
        made.add_row(f"{style}{escape(_name(each))}[/]", *figures, note)
    return made


def _name(each: Measured) -> str:
    """The combination; where the backend chose the accelerator itself, with the one it took."""
    wanted = each.combination
    return str(replace(wanted, accelerator=each.ran_on) if wanted.accelerator == "auto" and each.ran_on else wanted)


def _problem(each: Measured, problem: Reason) -> str:
    told = f"[yellow]out: {escape(_name(each))}[/]: {escape(' '.join(problem.message.split()))}"
    return told + (f"\n[dim]     {escape(problem.hint)}[/]" if problem.hint else "")
