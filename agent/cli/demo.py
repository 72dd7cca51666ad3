"""``verge demo``: everything on this machine, in one command."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click
import msgspec
from click.core import ParameterSource
from rich.console import Console

from agent.cli.output import echo
from agent.demo.broker import KINDS
from agent.demo.show import DemoOptions, DemoOutcome, show
from agent.demo.table import deployed, final, inspected

__all__ = ["command"]

_INSPECTION = {"model": "inspector", "cameras": 1, "fps": 4.0}
"""What is usual with --inspect: a part has to be looked at and its line to be read."""


@click.command("demo")
@click.option("--frames", type=click.IntRange(min=1), help="End after this many frames, of all cameras together.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after this time.")
@click.option("--cameras", type=click.IntRange(1, 32), default=2, show_default=True, help="How many cameras.")
@click.option("--fps", type=click.FloatRange(0.1, 100), default=10.0, show_default=True, help="Of each camera.")
@click.option("--model", default="detector", show_default=True, help="detector, classifier, or a model of yours.")
@click.option("--broker", type=click.Choice(KINDS), default="auto", show_default=True, help="Which broker to start.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the broker; a free one if not given.")
@click.option("--deploy", is_flag=True, help="Have jobs deploy and swap models while frames come, good and bad ones.")
@click.option("--inspect", is_flag=True, help="Have parts pass on a belt, some of them scratched: a verdict on each.")
@click.option("--keep", is_flag=True, help="Keep the work folder: configuration, logs, data.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@click.pass_context
def command(context: click.Context, /, *, as_json: bool, **options: Any) -> None:
    """Start a broker, the agent and simulated cameras on this machine, and show what happens.

    With --deploy the agent starts empty: jobs bring the classifier, swap it for the detector and back while frames
    come, and try four models that are broken.  The demo ends when they are done, after --frames and --seconds at the
    earliest.

    With --inspect each camera looks down on a belt of parts and sends the truth about each along; an anomaly model says
    which are scratched.  A line tells each verdict; anomalies come on a topic of their own and as pictures in a folder.

    Nothing listens beyond 127.0.0.1.  The exit status is 0 when every frame was answered or counted, no deployment
    lost one or took too long and every anomaly was told, 1 when not; a scratch that a model misses is a figure and no
    fault of the demo's.  Progress goes to standard error, the summary to standard output.

    \b
    Examples:
      verge demo
      verge demo --frames 60 --json
      verge demo --model classifier --cameras 4 --seconds 30
      verge demo --deploy --json
      verge demo --inspect
      verge demo --inspect --frames 40 --json
    """  # noqa: D301 click reads the backspace character
    if options["deploy"] and options["inspect"]:
        raise click.UsageError("--deploy and --inspect are two demos: one of them")
    if options["inspect"]:
        options |= {
            name: usual
            for name, usual in _INSPECTION.items()
            if context.get_parameter_source(name) is ParameterSource.DEFAULT
        }
    if options["deploy"] and context.get_parameter_source("model") is not ParameterSource.DEFAULT:
        raise click.UsageError("--deploy brings its own models: leave --model out")
    outcome = asyncio.run(show(DemoOptions(**options), Console(stderr=True)))
    if outcome.trouble:
        echo(f"verge: {outcome.trouble}", fg="red", err=True)
    if as_json:
        echo(_json(outcome))
    else:
        echo(final(outcome.summary, str(outcome.snapshots)))
        if outcome.rehearsal:
            echo(deployed(outcome.rehearsal))
        if outcome.anomalies:
            echo(inspected(outcome.anomalies))
    sys.exit(0 if outcome.good else 1)


def _json(outcome: DemoOutcome) -> str:
    values = msgspec.to_builtins(outcome.summary) | {"broker": outcome.broker, "snapshots": str(outcome.snapshots)}
    if outcome.rehearsal:
        values |= {name: getattr(outcome.rehearsal, name) for name in ("deployment", "failures", "shortcomings")}
    if outcome.anomalies:
        values["anomalies"] = msgspec.to_builtins(outcome.anomalies)
    if outcome.trouble:
        values["trouble"] = outcome.trouble
    return msgspec.json.encode(values).decode()
