"""``scripts/bench outbox``: what the outbox costs, and that it loses nothing while everything around it is killed.

``msgs_per_s``         small messages (300 bytes), published as fast as they are taken, each on disk first, then sent to
                       a mosquitto and removed after its PUBACK; the median of the rounds
``added_ms_p50``       from ``publish`` to the subscriber's handler, messages one at a time, through an outbox less
                       without one, alternating in one process
``rss_mb_at_1e6``      of a process whose link is down, with so many messages in its outbox; ``rss_mb_empty`` before
``lost``               what was acknowledged to the caller and never came, in a run in which the broker is stopped and
                       killed, the connection cut and the agent killed, all at random
``duplicates_by_id``   what came twice in that run, with the same ``verge-id``; ``duplicates_other`` with another one
``out_of_order``       messages of a topic that were first seen after a later one
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from statistics import median
from typing import Any

from scripts.benchmarks import rig
from scripts.benchmarks.figures import table
from scripts.benchmarks.outbox_kills import Chaos
from scripts.benchmarks.outbox_parts import part

AIMS = {
    "msgs_per_s": ("≥", 2000),
    "added_ms_p50": ("≤", 5.0),
    "lost": ("=", 0),
    "duplicates_other": ("=", 0),
    "out_of_order": ("=", 0),
}


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench outbox", description="The outbox: cost, memory, kills.")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--messages", type=int, default=20_000, help="of each throughput round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of throughput (%(default)s)")
    parser.add_argument("--latencies", type=int, default=500, help="messages one at a time (%(default)s)")
    parser.add_argument("--queued", type=int, default=1_000_000, help="messages for the memory figure (%(default)s)")
    parser.add_argument("--chaos", type=float, default=60.0, help="seconds of kills (%(default)s)")
    options = parser.parse_args(arguments)
    told = measure(options)
    print(json.dumps(told) if options.json else table(told, AIMS))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    with rig.folder() as work:
        with rig.mosquitto(work) as broker:
            rates = [
                asyncio.run(part("throughput", broker.port, work / f"rate-{number}", options.messages))["msgs_per_s"]
                for number in range(options.rounds)
            ]
            delays = asyncio.run(part("latency", broker.port, work / "latency", options.latencies))
        memory = asyncio.run(part("memory", rig.free_port(), work / "memory", options.queued))
        chaos = asyncio.run(Chaos(work / "chaos", options.chaos).run())
    return {"msgs_per_s": round(median(rates)), "msgs_per_s_rounds": rates} | delays | memory | chaos


if __name__ == "__main__":
    main(sys.argv[1:])
