"""``scripts/bench``: the plain loop against the way through the agent, in one run on the same frames."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from scripts.benchmarks import (
    api,
    backends,
    deploy,
    fleet,
    formats,
    frames,
    ipc,
    kinds,
    outbox,
    rig,
    rivals,
    rounds,
    verge,
)

AIMS = {
    "ratio_1": ("≥", 0.95),
    "ratio_2": ("≥", 1.6),
    "added_ms_p50": ("≤", 1.0),
    "core_rss_mb": ("≤", 40.0),
    "ready_s": ("≤", 1.0),
}

EPILOG = (
    "--backend heeds --model, --rounds and --latencies alone. "
    "scripts/bench outbox [--json] measures the outbox under outages and kills.  "
    "scripts/bench deploy [--json] [--swaps N] measures deployments: swaps, rollbacks and what they leave.  "
    "scripts/bench fleet [--json] [--things N] measures the Jobs service with a simulated fleet.  "
    "scripts/bench kinds [--json] measures results of each kind: their bytes, and the time to make them.  "
    "scripts/bench ipc [--json] measures Greengrass's socket beside a broker, and what it costs.  "
    "scripts/bench api [--json] [--vs litserve,mlserver] measures the interfaces for programs."
)


OTHERS = {
    "api": api.main,
    "deploy": deploy.main,
    "fleet": fleet.main,
    "ipc": ipc.main,
    "kinds": kinds.main,
    "outbox": outbox.main,
}
"""Measurements of their own, by the first word."""


def main() -> None:
    """Measure and print; the first word may be another measurement, ``--backend`` compares backends."""
    if sys.argv[1:2] and (other := OTHERS.get(sys.argv[1])):
        other(sys.argv[2:])
        return
    options = arguments()
    if options.backend:
        compared = backends.measure(options.model, options.backend, _turns(options), say)
        print(json.dumps(compared) if options.json else backends.table(compared))
        return
    told, spread = measure(options)
    print(json.dumps(told) if options.json else table(told, spread))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, epilog=EPILOG)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--vs", type=_rivals, default=(), help=f"measure beside it: {','.join(rivals.RIVALS)}")
    parser.add_argument(
        "--backend", type=_backends, default=(), help=f"only compare, with the first: {','.join(formats.FORMS)}"
    )
    parser.add_argument("--model", default="classifier", help="a sample's name, a folder or a file (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each throughput measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (%(default)s)")
    parser.add_argument("--latencies", type=int, default=100, help="frames one at a time, a round (%(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="of the agent without a model (%(default)s)")
    options = parser.parse_args()
    if options.backend and options.vs:
        parser.error("--backend and --vs are two measurements: ask for one at a time")
    if Path(options.model).exists():
        options.model = str(Path(options.model).resolve())
    return options


def measure(options: argparse.Namespace) -> tuple[dict[str, float | int | str], dict[str, list[float]]]:
    """Every figure, and what each round gave."""
    with rig.folder() as work:
        others = [rivals.installed(name, work, options.model) for name in options.vs]
        pictures = frames.write(work / "frames")
        plan = rounds.Plan(options.model, pictures, options.seconds, options.latencies)
        with rig.mosquitto(work) as broker:
            say(f"{options.starts} starts without a model")
            idle = verge.idle(work, broker, options.starts)
            contestants: list[rounds.Contestant] = [verge.Verge(work, broker, options.model), *others]
            measured = rounds.measure(plan, contestants, options.rounds, say)
    told: dict[str, float | int | str] = {"model": options.model, "cores": len(os.sched_getaffinity(0))}
    told |= {f"{other.name}_version": rivals.versions(other) for other in others}
    told |= measured.told([contestant.name for contestant in contestants])
    return told | verge.idle_medians(idle), measured.figures | idle


def table(told: dict[str, float | int | str], spread: dict[str, list[float]]) -> str:
    """For people: each figure, its aim, and the rounds it comes from, the bad ones too."""
    lines = [f"{'':<30}{'figure':>12}{'aim':>9}   rounds: min / median / max"]
    for name, value in told.items():
        sign, aim = AIMS.get(name, ("", ""))
        given = spread.get(name, [])
        rounds_told = f"{min(given):.3f} / {median(given):.3f} / {max(given):.3f}" if given else ""
        lines.append(f"{name:<30}{value!s:>12}{f'{sign} {aim}':>9}   {rounds_told}".rstrip())
    return "\n".join(lines)


def say(text: str) -> None:
    """Progress, where it disturbs no reader of the figures."""
    print(f"bench: {text}", file=sys.stderr)


def _turns(options: argparse.Namespace) -> int:
    """In how many turns each backend answers ``--latencies`` frames a round."""
    count: int = options.rounds * options.latencies // backends.TURN
    return max(1, count)


def _rivals(text: str) -> tuple[str, ...]:
    return _among(rivals.RIVALS, text)


def _backends(text: str) -> tuple[str, ...]:
    return _among(formats.FORMS, text)


def _among(known: Iterable[str], text: str) -> tuple[str, ...]:
    """Names between commas, each once."""
    names = tuple(dict.fromkeys(filter(None, text.split(","))))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return names


if __name__ == "__main__":
    main()
