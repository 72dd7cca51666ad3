"""``scripts/chaos``: an agent with two cameras, an outbox, deployments and a broker, under accidents at random.

Killed and stopped: the agent, its workers, the broker; the link cut; the disk full, and read-only at a start; files
damaged; the clock moved by up to a year; pictures that crash and hang the model; deployments, good ones and bad ones,
all the while.  Figures, each but the last to be 0:

frames_unaccounted  frames without an answer, be it the reason why there is none
results_lost        answers whose result did not come
undefined_sets      looks at the agent that showed a set nobody deployed
longest_dark_s      longest time without an answer for the camera that sends good pictures, up to 5
recovered           whether the agent does everything again once it is quiet
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from scripts.accidents.run import chaos

_DARK_S = 5.0


def main() -> None:
    """Run, print, and leave with 1 where a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="of accidents (%(default)s)")
    parser.add_argument("--seed", type=int, help="that of a run to repeat")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--log", type=Path, metavar="FILE", help="where to keep what the agent wrote")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    began = time.monotonic()

    def said(what: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {what}", file=sys.stderr, flush=True)

    said(f"seed {seed}")
    figures = chaos(options.minutes * 60, seed, said, options.log)
    print(json.dumps(figures) if options.json else table(figures))
    sys.exit(0 if kept(figures) else 1)


def kept(figures: dict[str, Any]) -> bool:
    """Whether every promise was kept."""
    nothing = all(figures[name] == 0 for name in ("frames_unaccounted", "results_lost", "undefined_sets"))
    return nothing and figures["longest_dark_s"] <= _DARK_S and figures["recovered"] is True


def table(figures: dict[str, Any]) -> str:
    """For people."""
    return "\n".join(f"{name:<20} {value}" for name, value in figures.items())


if __name__ == "__main__":
    main()
