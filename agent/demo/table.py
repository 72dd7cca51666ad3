"""The display of the demo while it runs: a live table on a terminal, plain lines elsewhere.

Both go to standard error: standard output belongs to the summary.  rich draws the table, because it knows
terminals, widths and their resizing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.demo.inspection import Anomalies
from agent.demo.rehearsal import Rehearsal
from agent.demo.scores import CameraRow, Percentiles, Summary

__all__ = ["LiveTable", "PlainLines", "Setting", "View", "deployed", "final", "inspected", "picture", "view"]

_FIRST_LINE_S = 1.0
_LINE_EVERY_S = 3.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What does not change while the demo runs."""

    broker: str
    port: int
    agent: str
    model: str
    snapshots: str
    news: tuple[str, str]
    """What is worth listening to, and its topic."""

    @property
    def listen(self) -> str:
        """The command that shows it as it is."""
        return f"mosquitto_sub -V 5 -p {self.port} -t '{self.news[1]}'"


class View(Protocol):
    """Something that shows rows; entered while there is something to show."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, rows: Sequence[CameraRow], tally: str = "") -> None:
        """These are the rows now, and what they come to."""

    def say(self, line: str, style: str = "") -> None:
        """Something happened that is worth a line that stays."""


class LiveTable:
    """A table that is drawn anew in its place."""

    def __init__(self, console: Console, setting: Setting) -> None:
        self._setting = setting
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, rows: Sequence[CameraRow], tally: str = "") -> None:
        """Draw the table."""
        self._live.update(picture(self._setting, rows, tally), refresh=True)

    def say(self, line: str, style: str = "") -> None:
        """Print it above the table."""
        self._live.console.print(line, style=style, markup=False, highlight=False)


class PlainLines:
    """A line every few seconds, for logs."""

    def __init__(self, console: Console, setting: Setting) -> None:
        self._console = console
        self._setting = setting
        self._due = 0.0

    def __enter__(self) -> Self:
        for name, value in _facts(self._setting):
            self._print(f"{name}: {value}")
        self._due = time.monotonic() + _FIRST_LINE_S
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, rows: Sequence[CameraRow], tally: str = "") -> None:
        """Print a line, if it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _LINE_EVERY_S
            self._print("; ".join([*map(_line, rows), *filter(None, [tally])]))

    def say(self, line: str, style: str = "") -> None:
        """Print it; lines have no style."""
        del style
        self._print(line)

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)


def view(console: Console, setting: Setting) -> View:
    """What suits the console; colours that are forced on a log do not make it a terminal."""
    watched = console.file.isatty() and not console.is_dumb_terminal
    return LiveTable(console, setting) if watched else PlainLines(console, setting)


def picture(setting: Setting, rows: Sequence[CameraRow], tally: str = "") -> Group:
    """The header, the table and what it comes to."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(setting):
        facts.add_row(name, Text(value))
    # One space between columns: what the camera sees still fits into 80.
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False, expand=True)
    table.add_column("camera", no_wrap=True, style="bold")
    for heading in ("frames", "answered", "dropped", "failed", "fps", "p50/p95 ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(" sees now", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(
            Text(row.camera),
            str(row.frames),
            Text(str(row.answered), style="green"),
            Text(str(row.dropped), style="yellow" if row.dropped else "dim"),
            Text(str(row.failed), style="red" if row.failed else "dim"),
            f"{row.fps:.1f}",
            _latency(row.latency_ms),
            Text(f" {row.sees or '…'}", style="cyan"),
        )
    return Group(
        facts, "", table, "", *filter(None, [Text(tally)]), Text("Ctrl-C ends the demo with a summary", style="dim")
    )


def final(summary: Summary, snapshots: str) -> str:
    """The summary in words."""
    counts = f"{summary.answered} answered, {summary.dropped} dropped, {summary.failed} failed"
    lines = [
        f"{summary.frames} frames published, {summary.received} received: {counts}; {summary.results} results arrived",
        f"{summary.fps:.1f} results a second, latency p50/p95 {_latency(summary.latency_ms)} ms",
        *(f"  {reason}: {count}" for reason, count in summary.reasons.items()),
        f"annotated pictures: {snapshots}",
        "every frame is accounted for" if summary.balanced else "NOT every frame is accounted for",
    ]
    return "\n".join(lines)


def deployed(rehearsal: Rehearsal) -> str:
    """The deployments in words."""
    swap = rehearsal.deployment
    lines = [
        f"swapped: {swap.status} in {swap.seconds:.2f} s from the cache ({swap.first_seconds:.2f} s the first time)",
        f"  {swap.swap_gap_frames} frames lost or answered twice over all swaps",
        *(
            f"  {one.case}: {one.status} in {one.seconds:.2f} s, {one.frames_lost} frames lost"
            for one in rehearsal.failures
        ),
        *(f"NOT as promised: {shortcoming}" for shortcoming in rehearsal.shortcomings),
    ]
    return "\n".join(lines)


def inspected(anomalies: Anomalies) -> str:
    """The verdicts in words."""
    announced = f"{anomalies.announced} anomalies came on their topic"
    return "\n".join([str(anomalies), announced if anomalies.all_announced else f"NOT as promised: {announced}"])


def _facts(setting: Setting) -> list[tuple[str, str]]:
    return [
        ("broker", setting.broker),
        ("agent", setting.agent),
        ("model", setting.model),
        ("snapshots", setting.snapshots),
        (setting.news[0], setting.listen),
    ]


def _line(row: CameraRow) -> str:
    return (
        f"{row.camera}: {row.frames} frames, {row.answered} answered, {row.dropped} dropped, {row.failed} failed, "
        f"{row.fps:.1f} fps, {_latency(row.latency_ms)} ms, sees {row.sees or '…'}"
    )


def _latency(percentiles: Percentiles) -> str:
    return "/".join("–" if value is None else f"{value:.0f}" for value in (percentiles.p50, percentiles.p95))
