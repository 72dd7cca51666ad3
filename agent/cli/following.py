"""A deployment under way, for a person: one live line on a terminal, a line a step elsewhere, all on standard error."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["Follow", "follow", "numbers", "sentence"]

_STEPS = {
    "RECEIVED": "received",
    "RESOLVED": "fetching artifacts",
    "STAGED": "everything is there",
    "ACTIVATING": "loading models and asking them",
    "VERIFYING": "switched; committing",
    "ROLLING_BACK": "rolling back",
}
_MB = 1e6

Told = Mapping[str, Any]


class Follow(Protocol):
    """Shows how far a deployment is; entered while it is under way."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def told(self, payload: Told) -> None:
        """The agent told this."""


def follow(*, canary: int | None = None) -> Follow:
    """What suits standard error; ``canary`` is how many frames a trial takes."""
    console = Console(stderr=True, highlight=False)
    return _Live(console, canary) if console.is_terminal else _Lines()


def sentence(payload: Told) -> str:
    """Which step it is.

    >>> sentence({"step": "STAGED"})
    'everything is there'
    >>> sentence({"step": "RESOLVED", "runtime": {"component": "variant.DLR", "doing": "installing dlr 1.6.0"}})
    'variant.DLR: installing dlr 1.6.0'
    """
    if "canary" in payload:
        return f"trying the new model on {payload['canary'].get('stream', '')}"
    if runtime := payload.get("runtime"):
        return f"{runtime['component']}: {runtime['doing']}"
    step = str(payload.get("step", ""))
    return _STEPS.get(step, step.lower())


def numbers(payload: Told) -> str:
    """How far the step is; empty where it tells none.

    >>> numbers({"progress": {"bytes": 1500000, "of": 6000000, "artifacts": 1}})
    '1.5 of 6.0 MB'
    >>> numbers({"canary": {"stream": "line", "frames": 40, "agreement": 0.975, "latency_ratio": 1.2}})
    '40 frames, 98 % agree, 1.2 × the time'
    """
    if fetched := payload.get("progress"):
        total = fetched.get("of")
        return f"{fetched['bytes'] / _MB:.1f}" + (f" of {total / _MB:.1f} MB" if total else " MB")
    if seen := payload.get("canary"):
        said = f"{seen['frames']} frame{'' if seen['frames'] == 1 else 's'}"
        return f"{said}, {seen['agreement']:.0%}".replace("%", " %") + f" agree, {seen['latency_ratio']:.1f} × the time"
    return ""


def _share(payload: Told, canary: int | None) -> tuple[float, float | None]:
    """What is done, and of how much; None where that is not known."""
    if fetched := payload.get("progress"):
        return fetched["bytes"], fetched.get("of") or None
    if seen := payload.get("canary"):
        return seen["frames"], canary
    return 0, None


class _Live:
    """A spinner, the step, a bar and its numbers, drawn in one place and gone when it is over."""

    def __init__(self, console: Console, canary: int | None) -> None:
        self._canary = canary
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("sent", total=None, numbers="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def told(self, payload: Told) -> None:
        done, total = _share(payload, self._canary)
        self._progress.update(
            self._task,
            description=escape(sentence(payload)),
            completed=done,
            total=total,
            numbers=escape(numbers(payload)),
        )


class _Lines:
    """A line whenever the step or its numbers change."""

    def __init__(self) -> None:
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def told(self, payload: Told) -> None:
        line = ": ".join(filter(None, (sentence(payload), numbers(payload))))
        if line != self._last:
            self._last = line
            click.echo(line, err=True)
