"""A deployment from this machine: signed, sent, followed on standard error, and its end shown.

Its progress is one live line on a terminal and a line a step elsewhere; its end is JSON and an exit status for
programs, a few lines for people.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from agent.cli import remote
from agent.cli.output import echo, print_json
from agent.cli.remote import Payload, Remote, waits
from agent.cli.tables import DEPLOYMENT_COLOURS, cell, console, table
from agent.config.load import Config
from agent.errors import ConfigError
from agent.results.result import Ulids

__all__ = ["Ending", "SendingOptions", "commanded", "finish", "new_id", "send", "sending_options"]

_PATH = click.Path(path_type=Path)
_TIMEOUT_S = 300.0
_DAYS = 30
_MEANS = {
    "FAILED_NO_STATE_CHANGE": "nothing was changed",
    "FAILED_ROLLBACK_COMPLETE": "what was live before is live again",
    "FAILED_ROLLBACK_NOT_REQUESTED": "the new set stays, as it was asked to",
    "FAILED_UNABLE_TO_ROLLBACK": "what was live before could not be put back",
    "REJECTED": "it was not taken up",
    "CANCELED": "it was cancelled before it changed anything",
}
_EXIT = {"SUCCESSFUL": 0, "REJECTED": 2, "CANCELED": 2}
_STEPS = {
    "RECEIVED": "received",
    "RESOLVED": "fetching artifacts",
    "STAGED": "everything is there",
    "ASKING": "asking components what they say to it",
    "ACTIVATING": "loading models and asking them",
    "VERIFYING": "switched; committing",
    "ROLLING_BACK": "rolling back",
}
_MB = 1e6


@dataclass(frozen=True, slots=True)
class SendingOptions:
    """How to send a document: signed with which key, waited for how long, its end shown in which form."""

    key: Path | None
    passphrase_file: Path | None
    timeout_s: float | None
    """None: do not wait for the end."""
    as_json: bool

    def sealed(self, document: bytes, thing: str | None) -> bytes:
        """The document in an envelope that the key signed, for ``thing`` alone; without a key as it is."""
        if self.key is None:
            return document
        from agent.cli import signing  # noqa: PLC0415 what signs needs a library that sending does not

        if self.passphrase_file is not None and not (passphrase := signing.content(self.passphrase_file).strip()):
            raise ConfigError(f"there is no passphrase in {self.passphrase_file}", code="passphrase-missing")
        private = signing.PrivateKey.read(self.key, passphrase if self.passphrase_file else None)
        now = datetime.now(UTC)
        return signing.seal(signing.with_claims(document, thing, now + timedelta(days=_DAYS), now), private)


def sending_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of every deployment; it gets them as ``sending``."""

    @click.option("--sign", "key", type=_PATH, metavar="KEY", help="Sign it; see verge trust.")
    @click.option("--passphrase-file", "secret", type=_PATH, metavar="FILE", help="Of the key.")
    @click.option("--wait/--no-wait", default=True, help="Until it ends, or until it is sent.  [default: --wait]")
    @click.option(
        "--timeout", type=click.FloatRange(0, min_open=True), default=_TIMEOUT_S, show_default=True, metavar="S"
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the end as one JSON object.")
    @wraps(function)
    def wrapped(key: Path | None, secret: Path | None, wait: bool, timeout: float, as_json: bool, **others: Any) -> Any:
        return function(sending=SendingOptions(key, secret, timeout if wait else None, as_json), **others)

    return wrapped


def new_id() -> str:
    """An id for a deployment or a job; later ones sort after earlier ones."""
    return Ulids().new().lower()


# -- sending and its end --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ending:
    """The last payload of a deployment, how long it took, and its plan."""

    thing: str
    payload: Mapping[str, Any]
    seconds: float
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """Greengrass's detailed status."""
        return str(self.payload.get("detailedStatus", ""))

    @property
    def exit_status(self) -> int:
        """0 when it is live, 2 when it was rejected, 1 for everything else."""
        return _EXIT.get(self.status, 1)

    def to_dict(self) -> dict[str, Any]:
        """All of it, for programs."""
        planned = {key: self.plan[key] for key in ("components", "removed") if key in self.plan}
        return {"thing": self.thing, **self.payload, "seconds": round(self.seconds, 3), **planned}


async def send(
    agent: Remote, document: bytes, identity: str | None, sending: SendingOptions, canary: int | None = None
) -> Ending | None:
    """Send a document and show its progress until it ends; None when its end is not waited for."""
    content = sending.sealed(document, agent.thing)
    if sending.timeout_s is None:
        await agent.send(content)
        return None
    plan: dict[str, Any] = {}
    began = time.monotonic()
    with _progress_view(canary) as view:

        def on_progress(payload: Payload) -> None:
            plan.update({key: payload[key] for key in ("components", "removed") if key in payload})
            view.show(payload)

        end = await agent.deploy(content, identity, on_progress, timeout_s=sending.timeout_s)
    return Ending(agent.thing, end, time.monotonic() - began, plan)


async def commanded(
    config: Config, thing: str, command: Mapping[str, Any], sending: SendingOptions
) -> Mapping[str, Any] | None:
    """Send a command that is no deployment; the agent's answer, None when that is not waited for.

    One that is refused as any document would be has the result REFUSED.
    """
    async with remote.reached(config, thing) as agent:
        content = sending.sealed(json.dumps(command).encode(), agent.thing)
        if sending.timeout_s is None:
            await agent.send(content)
            return None
        await agent.sets()
        answer = await agent.command(content, timeout_s=sending.timeout_s)
        if "result" not in answer:  # so does an agent that knows no such command
            cause = answer.get("cause") or answer.get("failureCause") or "it is not taken"
            hint = {"hint": answer["hint"]} if answer.get("hint") else {}
            answer = {**command, "result": "REFUSED", "reason": cause, **hint}
        return {"thing": agent.thing, **answer}


def finish(ending: Ending | None, *, as_json: bool) -> None:
    """Print the end on standard output and leave with its exit status; without an end say that it was sent."""
    if ending is None:
        echo("sent", err=True)
        return
    if as_json:
        print_json(ending.to_dict(), indent=0)
    else:
        _show(ending)
    raise click.exceptions.Exit(ending.exit_status)


def _show(ending: Ending) -> None:
    out = console()
    status = f"[{DEPLOYMENT_COLOURS.get(ending.status, 'red')}]{cell(ending.status)}[/]"
    means = f", {_MEANS[ending.status]}" if ending.status in _MEANS else ""
    out.print(f"{cell(ending.thing)}: {status} in {ending.seconds:.2f} s{means}", soft_wrap=True)
    if cause := ending.payload.get("cause") or ending.payload.get("failureCause"):
        out.print(f"  {cell(str(cause))}", soft_wrap=True)
    if hint := ending.payload.get("hint"):
        out.print(f"  {cell(str(hint))}", style="dim", soft_wrap=True)
    for note in ending.payload.get("notes", ()):
        out.print(f"  {cell('note: ' + str(note))}", soft_wrap=True)
    if rows := _rows(ending.plan):
        made = table("component", "action", "version", whole=("action", "version"))
        for row in rows:
            made.add_row(*map(cell, row))
        out.print(made)


def _rows(plan: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    actions = {name: action.partition(" ") for name, action in plan.get("components", {}).items()}
    return [(name, action, version) for name, (action, _, version) in actions.items()] + [
        (name, "remove", "") for name in plan.get("removed", ())
    ]


# -- progress -------------------------------------------------------------------------------------------------


class _ProgressView(Protocol):
    """Shows the progress of a deployment; entered while it is under way."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, payload: Payload) -> None:
        """Show what the agent published last."""


def _progress_view(canary: int | None) -> _ProgressView:
    """A view that suits standard error; ``canary`` is how many frames a trial takes."""
    out = console(stderr=True)
    return _Live(out, canary) if out.is_terminal else _Lines()


def _step(payload: Payload) -> str:
    """The step of a deployment in words, and what it waits for.

    >>> _step({"status": "QUEUED", "waiting": {"kind": "deployment", "reason": "waits behind a"}})
    'waits behind a'

    >>> _step({"step": "STAGED"})
    'everything is there'
    >>> _step({"step": "RESOLVED", "runtime": {"component": "variant.DLR", "doing": "installing dlr 1.6.0"}})
    'variant.DLR: installing dlr 1.6.0'
    """
    if "canary" in payload:
        return f"trying the new model on {payload['canary'].get('stream', '')}"
    if runtime := payload.get("runtime"):
        return f"{runtime['component']}: {runtime['doing']}"
    if waiting := waits(payload):
        return waiting
    step = str(payload.get("step", ""))
    return _STEPS.get(step, step.lower())


def _numbers(payload: Payload) -> str:
    """The numbers of a step; empty where it has none.

    >>> _numbers({"progress": {"bytes": 1500000, "of": 6000000, "artifacts": 1}})
    '1.5 of 6.0 MB'
    >>> _numbers({"canary": {"stream": "line", "frames": 40, "agreement": 0.975, "latency_ratio": 1.2}})
    '40 frames, 98 % agree, 1.2 × the time'
    """
    if fetched := payload.get("progress"):
        total = fetched.get("of")
        return f"{fetched['bytes'] / _MB:.1f}" + (f" of {total / _MB:.1f} MB" if total else " MB")
    if trial := payload.get("canary"):
        frames = f"{trial['frames']} frame{'' if trial['frames'] == 1 else 's'}"
        agreement = f"{trial['agreement']:.0%}".replace("%", " %")
        return f"{frames}, {agreement} agree, {trial['latency_ratio']:.1f} × the time"
    return ""


def _share(payload: Payload, canary: int | None) -> tuple[float, float | None]:
    """How much is done, and of how much; None where that is not known."""
    if fetched := payload.get("progress"):
        return fetched["bytes"], fetched.get("of") or None
    if trial := payload.get("canary"):
        return trial["frames"], canary
    return 0, None


class _Live:
    """A spinner, the step, a bar and its numbers, drawn in one place and gone when it is over."""

    def __init__(self, out: Console, canary: int | None) -> None:
        self._canary = canary
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=out,
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

    def show(self, payload: Payload) -> None:
        done, total = _share(payload, self._canary)
        self._progress.update(
            self._task,
            description=cell(_step(payload)),
            completed=done,
            total=total,
            numbers=cell(_numbers(payload)),
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

    def show(self, payload: Payload) -> None:
        line = ": ".join(filter(None, (_step(payload), _numbers(payload))))
        if line != self._last:
            self._last = line
            echo(line, err=True)
