"""``scripts/bench api``: the interfaces for programs beside a plain loop over the same network, in one run.

``loop_per_s``, ``loop_ms_p50``      the network alone, called in a loop on one tensor: 1 × 224 × 224 × 3 float32
``edge_manager_…``                   Edge Manager's Predict with it as bytes, ``edge_manager_shm_…`` in System V memory
``v2_grpc_…``, ``v2_http_…``         the Open Inference Protocol's infer, its data raw and binary
``lookout_…``                        Lookout's DetectAnomalies of 1472 × 828 pixels, beside ``loop_picture_…``: the same
                                     picture through preprocessing, network and task in a loop; ``lookout_shm_…`` with
                                     the picture and its mask in POSIX memory
``litserve_…``, ``mlserver_…``       the other servers, LitServe over HTTP with base64, MLServer over gRPC with raw data
``…_ms_p50``                         of one request after the other
``…_ratio_alone``                    their rate to the plain loop's: one client that waits for each answer
``…_per_s``, ``…_ratio``             the same of one client that keeps four requests on their way
``…_cpu_ms``                         processor time a request, with four on their way: of the agent's core, its workers,
                                     the client, and of the loop

Each is measured between two runs of the plain loop, round after round, and divided by their mean; told are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from agent.inference.manifest import sample_names
from scripts.benchmarks import mqtt, rig, rivals
from scripts.benchmarks.figures import table

ROOT = Path(__file__).resolve().parents[2]
_INTERFACES = ("edge_manager", "edge_manager_shm", "lookout", "lookout_shm", "v2_grpc", "v2_http")
AIMS = {f"{name}_ratio": ("≥", 0.95) for name in _INTERFACES}
PATHS = {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
WINDOW = 4
"""Requests on their way where a client does not wait for each."""
MODEL = "classifier"
PICTURE_MODEL = "inspector"
LOOPS = ("loop", "loop_picture")
_LOOKOUT = """[lookout]
socket = "{work}/lookout.sock"
[lookout.models.inspector]
source = "inspector"
threads = 1
"""
_PARTS = ("_client", "_core", "_worker")


@dataclass(frozen=True)
class Contestant:
    """An interface: how its client is told to ask, and its server while it is measured."""

    name: str
    kind: str
    serving: Callable[[], AbstractContextManager[str]]
    """Gives its address."""
    core: int = 0
    """The agent's process, where processor time is read."""
    loop: str = "loop"
    """What it is compared with."""


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench api", description="The interfaces for programs: speed.")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (%(default)s)")
    parser.add_argument("--vs", default="", help=f"measure beside it, installed first: {','.join(rivals.RIVALS)}")
    options = parser.parse_args(arguments)
    told = measure(options)
    print(json.dumps(told) if options.json else table(told, AIMS))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    figures: dict[str, list[float]] = {}
    with rig.folder() as work, contextlib.ExitStack() as stack:
        contestants = [*_ours(*stack.enter_context(_agent(work)))]
        if PICTURE_MODEL not in sample_names():
            _say(f"Lookout's interface is left out: there is no sample {PICTURE_MODEL}")
        told: dict[str, Any] = {"model": MODEL, "cores": len(os.sched_getaffinity(0))}
        for name in filter(None, options.vs.split(",")):
            try:
                served = rivals.installed(name, work, MODEL)
            except SystemExit as error:
                _say(f"{name} is left out: {str(error).splitlines()[0]}")
                continue
            told[f"{name}_version"] = rivals.versions(served)
            contestants.append(Contestant(name, name, partial(_rival, served, work)))
        alone: dict[str, float] = {}
        for number in range(options.rounds):
            for one in contestants:
                _say(f"round {number + 1} of {options.rounds}: {one.name}")
                # The loop behind the contestant before is the one before this, where it is the same.
                before = alone.pop(one.loop, 0.0) or _loop(one.loop, options.seconds, figures)
                with one.serving() as address:
                    rates = {window: _ask(one, address, window, options.seconds, figures) for window in (1, WINDOW)}
                alone = {one.loop: (after := _loop(one.loop, options.seconds, figures))}
                for window, rate in rates.items():
                    ratio = rate / ((before + after) / 2)
                    figures.setdefault(f"{one.name}_ratio{'_alone' if window == 1 else ''}", []).append(ratio)
    return told | {name: round(median(values), 3) for name, values in sorted(figures.items())}


def _loop(kind: str, seconds: float, figures: dict[str, list[float]]) -> float:
    model = PICTURE_MODEL if kind == "loop_picture" else MODEL
    return _part([kind, model, str(seconds)], kind, figures, told=True)


def _ask(
    one: Contestant, address: str, window: int, seconds: float, figures: dict[str, list[float]]
) -> float:  # fmt: skip
    arguments = [one.kind, address, str(seconds), str(window), str(one.core)]
    return _part(arguments, one.name, figures, told=window > 1)


def _part(arguments: list[str], name: str, figures: dict[str, list[float]], *, told: bool) -> float:
    """What a client or the loop measures in a process of its own; the result is its rate."""
    environment = os.environ | PATHS | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "scripts.benchmarks.api_part", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {name} could not be measured:\n{done.stderr}")
    said: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if told:
        figures.setdefault(f"{name}_per_s", []).append(said["per_s"])
        for part, spent in zip(("",) if name in LOOPS else _PARTS, said["cpu_ms"], strict=False):
            figures.setdefault(f"{name}{part}_cpu_ms", []).append(spent)
    if not told or name in LOOPS:
        figures.setdefault(f"{name}_ms_p50", []).append(said["ms_p50"])
    return float(said["per_s"])


# -- servers -----------------------------------------------------------------------------------------------------------


def _ours(places: Mapping[str, str], core: int) -> Iterator[Contestant]:
    where = {"edge_manager": "edge_manager", "edge_manager_shm": "edge_manager", "v2_grpc": "grpc", "v2_http": "http"}
    for name, kind in where.items():
        yield Contestant(name, name, partial(contextlib.nullcontext, places[kind]), core)
    for name in ("lookout", "lookout_shm") if "lookout" in places else ():
        yield Contestant(name, name, partial(contextlib.nullcontext, places["lookout"]), core, "loop_picture")


@contextlib.contextmanager
def _agent(work: Path) -> Iterator[tuple[dict[str, str], int]]:
    """An agent that serves, online: where each interface is, and its process."""
    over_http, over_grpc, socket = rig.free_port(), rig.free_port(), work / "edge-manager.sock"
    config = work / "api.toml"
    lookout = PICTURE_MODEL in sample_names()
    with rig.mosquitto(work) as broker:
        config.write_text(
            f'thing = "api"\ndata_dir = "{work / "data"}"\nlog_level = "error"\n'
            f"[transports.local]\nport = {broker.port}\n"
            f'[models.{MODEL}]\nsource = "{MODEL}"\nthreads = 1\n[edge_manager]\nsocket = "{socket}"\n'
            f'[serving]\nhttp = "127.0.0.1:{over_http}"\ngrpc = "127.0.0.1:{over_grpc}"\n'
            + (_LOOKOUT.format(work=work) if lookout else "")
        )
        link = mqtt.Connection(broker.port, rig.READY_S)
        link.subscribe("verge/api/status")
        with rig.running([sys.executable, "-m", "agent", "run", "-c", str(config)], work / "api.log", PATHS) as process:
            try:
                while json.loads(link.receive()[1])["state"] != "online":
                    pass
            except TimeoutError:
                raise SystemExit(f"bench: the agent does not start:\n{(work / 'api.log').read_text()}") from None
            link.close()
            places = {
                "edge_manager": f"unix:{socket}", "grpc": f"127.0.0.1:{over_grpc}", "http": f"127.0.0.1:{over_http}",
            }  # fmt: skip
            yield places | ({"lookout": f"unix:{work}/lookout.sock"} if lookout else {}), process.pid


@contextlib.contextmanager
def _rival(served: rivals.Served, work: Path) -> Iterator[str]:
    with served.serving(1) as target:
        port = target.port
        if served.name == "mlserver":
            port = json.loads((work / served.name / "settings.json").read_text())["grpc_port"]
        yield f"127.0.0.1:{port}"


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
