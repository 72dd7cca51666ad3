"""``verge tune``: the fastest way to run a model on this device, measured and kept for the agent."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec

from agent.cli import loop
from agent.cli.output import Styled, echo, json_option, print_json
from agent.config import load as configuration
from agent.config.load import Config
from agent.config.models import ModelOptions
from agent.errors import ConfigError
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.tuning.store import TuningStore
from agent.inference.tuning.tuner import BUDGET_S, digest_of, tune

__all__ = ["command"]


@click.command("tune")
@click.argument("model", metavar="PATH|NAME")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A model of this configuration, by its name.",
)
@click.option(
    "--budget",
    type=click.FloatRange(1),
    default=BUDGET_S,
    show_default=True,
    metavar="S",
    help="Seconds to measure for.",
)
@click.option("--forget", is_flag=True, help="Remove what was measured of the model, and measure nothing.")
@json_option
def command(model: str, config: Path | None, budget: float, forget: bool, as_json: bool) -> None:
    """Measure a model in every backend, on every accelerator and with 1 to 4 threads, as far as they run it here.

    MODEL is a sample's name, a folder or a model file; with -c the name of a model in the configuration.  What its
    manifest or the configuration says of backend, accelerator and threads is kept; the rest is varied.  Answers must
    agree.  What is found is kept for agents that load the model with autotune = true.

    The pictures are those in golden/ beside the model, or the package's own.  The exit status is 1 when nothing runs
    the model.

    \b
    Examples:
      verge tune classifier
      verge tune mine.onnx --budget 60
      verge tune detector -c configs/local.toml --json
      verge tune classifier --forget
    """  # noqa: D301 click wants the character itself
    settings = configuration.load(config) if config else None
    spec, store = _spec(model, settings), TuningStore(configuration.data_folders(settings)[0])
    if forget:
        _forget(spec, store, as_json=as_json)
        return
    tuning = loop.run(tune(spec, budget_s=budget, report=_show_activity))
    _show_activity("")
    kept = store.keep(tuning)
    if as_json:
        print_json({**msgspec.to_builtins(tuning), "chosen": next(iter(tuning.ranked), None), "kept": kept})
    else:
        from agent.cli import tables  # noqa: PLC0415 rich is slow to import

        tables.show_tuning(tuning, kept)
    if kept is None:
        raise _unkept(store)
    if not tuning.ranked:
        raise click.exceptions.Exit(1)


def _spec(model: str, settings: Config | None) -> ModelSpec:
    if settings is not None and model in settings.models:
        return resolve(settings.models[model], settings.folder)
    return resolve(ModelOptions(source=model), Path.cwd())


def _forget(spec: ModelSpec, store: TuningStore, *, as_json: bool) -> None:
    digest = asyncio.run(digest_of(spec))
    try:
        count = store.forget(digest)
    except OSError as error:
        raise _unkept(store, error.strerror) from error
    if as_json:
        print_json({"model": spec.name, "digest": digest, "forgotten": count})
    else:
        outcome = "forgotten" if count else "nothing was kept"
        echo(f"{spec.name}: {outcome}; an agent that loads it with autotune = true measures it anew")


def _unkept(store: TuningStore, why: str | None = None) -> ConfigError:
    hint = "run it as the agent's user, or name its configuration with -c"
    return ConfigError(f"{store.folder} cannot be written{f': {why}' if why else ''}", hint=hint, code="not-written")


def _show_activity(line: str) -> None:
    """Show the current activity in one line of a terminal, and nowhere else."""
    if sys.stderr.isatty():
        echo(Styled("\r\033[K"), line, nl=False, err=True)
