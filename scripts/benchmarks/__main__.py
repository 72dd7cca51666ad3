"""``scripts/bench``: the plain loop against the way through the agent, in one run on the same frames."""

from __future__ import annotations

import argparse
import json
import os
import sys
from statistics import median

from scripts.benchmarks import bare, idle, rig, through
from scripts.benchmarks.frames import frames

AIMS = {
    "ratio_1": ("≥", 0.95),
    "ratio_2": ("≥", 1.6),
    "added_ms_p50": ("≤", 1.0),
    "core_rss_mb": ("≤", 40.0),
    "ready_s": ("≤", 1.0),
}


def main() -> None:
    """Measure and print."""
    options = arguments()
    figures = measure(options)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        sign, aim = AIMS.get(name, ("", 0.0))
        print(f"{name:<16}{value!s:>12}{f'   aim {sign} {aim}' if sign else ''}")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--model", default="classifier", help="a sample's name, a folder or a file (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each throughput measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="bare and through the agent in turn (%(default)s)")
    parser.add_argument("--latencies", type=int, default=300, help="frames of the latency measurement (%(default)s)")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, float | int | str]:
    """Every figure; a ratio is the median of the rounds' ratios, so that a drifting machine does not bend it."""
    pictures = frames()
    rounds = []
    with rig.folder() as work, rig.mosquitto(work) as port:
        figures = idle.measure(work, port)
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            alone = bare.measure(options.model, options.seconds)
            one = through.throughput(work, port, options.model, 1, pictures, options.seconds)
            two = through.throughput(work, port, options.model, 2, pictures, options.seconds)
            rounds.append((alone, one, two, one / alone, two / alone))
        added = sorted(through.latency(work, port, options.model, pictures, options.latencies))
    alone, one, two, ratio_1, ratio_2 = (median(column) for column in zip(*rounds, strict=True))
    return {
        "model": options.model,
        "cores": len(os.sched_getaffinity(0)),
        "bare_fps": round(alone, 1),
        "e2e_fps_1": round(one, 1),
        "ratio_1": round(ratio_1, 3),
        "e2e_fps_2": round(two, 1),
        "ratio_2": round(ratio_2, 3),
        "added_ms_p50": round(added[len(added) // 2], 3),
        "added_ms_p95": round(added[int(0.95 * len(added))], 3),
        **figures,
    }


def say(text: str) -> None:
    """Progress, where it disturbs no reader of the figures."""
    print(f"bench: {text}", file=sys.stderr)


if __name__ == "__main__":
    main()
