"""Other servers beside ours: the same worker code behind LitServe and behind MLServer, each over its own HTTP.

Each lives in an environment of its own, made when it is first asked for in a cache folder outside the checkout.
Its workers call the same ``Session`` on the same model file with one thread, so that decode, preprocess and
invoke are the same work done by the same code, and what differs is the way there and back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from agent.config.models import ModelOptions
from agent.inference.manifest import resolve
from scripts.benchmarks import MODEL, cpu, http, rig
from scripts.benchmarks.client import Target

CHECKOUT = Path(__file__).parents[2]
WORKER_SIDE = ("numpy", "opencv-python-headless", "ai-edge-litert")
"""What the workers run on: at least the versions of our own."""


@dataclass(frozen=True)
class Rival:
    """A server: what to install, and the command that serves (environment's bin, folder, ports, workers)."""

    name: str
    requirements: tuple[str, ...]
    below: tuple[int, int]
    """The first Python that it does not take."""
    health: str
    command: Callable[[Path, Path, int, int], list[str]]


def _litserve(programs: Path, _folder: Path, port: int, workers: int) -> list[str]:
    return [str(programs / "python"), "-m", "scripts.benchmarks.serve_litserve", str(port), str(workers)]


def _mlserver(programs: Path, folder: Path, port: int, workers: int) -> list[str]:
    folder.mkdir(exist_ok=True)
    settings = {
        "host": "127.0.0.1", "http_port": port, "grpc_port": rig.free_port(), "metrics_port": rig.free_port(),
        "parallel_workers": workers, "debug": False,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "bench", "implementation": "scripts.benchmarks.serve_mlserver.Classifier"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(programs / "mlserver"), "start", str(folder)]


RIVALS = {
    "litserve": Rival("litserve", ("litserve>=0.2.10",), (3, 15), "/health", _litserve),
    # MLServer 1.7's workers ask uvloop for a loop before there is one, which uvloop refuses since 0.22.
    "mlserver": Rival("mlserver", ("mlserver>=1.7", "uvloop<0.22"), (3, 13), "/v2/models/bench/ready", _mlserver),
}


@dataclass(frozen=True)
class Served:
    """A rival that is installed and ready to serve a model."""

    rival: Rival
    programs: Path
    work: Path
    model: str

    @property
    def name(self) -> str:
        """What its figures are called."""
        return self.rival.name

    @contextlib.contextmanager
    def serving(self, workers: int) -> Iterator[Target]:
        """The server with that many workers, answering, and beside it an echo over the HTTP server that it is built on.

        The echo is uvicorn with an application that only returns the body: taking its time away takes away all that
        HTTP costs, which favours the rival a little, as a framework's own use of HTTP is never that lean.
        """
        port, echo = rig.free_port(), rig.free_port()
        model = resolve(ModelOptions(source=self.model), Path.cwd()).request(threads=1)["model"]
        environment = {
            MODEL: json.dumps(model), "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        }  # fmt: skip
        log = self.work / f"{self.name}.log"
        serve = self.rival.command(self.programs, self.work / self.name, port, workers)
        uvicorn = [str(self.programs / "python"), "-m", "uvicorn", "scripts.benchmarks.echo:application"]
        uvicorn += ["--host", "127.0.0.1", "--port", str(echo), "--log-level", "error", "--no-access-log"]
        with rig.running(serve, log, environment) as process, rig.running(uvicorn, log, environment) as echoing:
            try:
                _wait_for(process, port, self.rival.health)
                rig.wait_for_port(echoing, echo)
            except SystemExit:
                print(log.read_text(), file=sys.stderr)
                raise
            yield Target(self.name, port, echo, watch={"server": cpu.tree(process.pid)})


def installed(name: str, work: Path, model: str) -> Served:
    """The rival, installed first if need be; ``SystemExit`` with what the installer printed when it cannot be."""
    rival = RIVALS[name]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verge-bench" / name
    wanted = [*rival.requirements, *(f"{package}>={version(package)}" for package in WORKER_SIDE)]
    stamp = home / ".ready"
    if not stamp.is_file() or stamp.read_text() != "\n".join(wanted):
        print(f"bench: installing {name} in {home} (once; a minute or two)", file=sys.stderr)
        _do(name, [_python(rival), "-m", "venv", "--clear", str(home)])
        _do(name, [str(home / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", *wanted])
        stamp.write_text("\n".join(wanted))
    return Served(rival, home / "bin", work, model)


def versions(served: Served) -> str:
    """The rival's version and its Python's."""
    told = f"import sys, importlib.metadata as m; print(m.version({served.name!r}), sys.version.split()[0])"
    done = subprocess.run([served.programs / "python", "-c", told], check=True, stdout=subprocess.PIPE, text=True)
    return "{} on Python {}".format(*done.stdout.split())


def _python(rival: Rival) -> str:
    if sys.version_info[:2] < rival.below:
        return sys.executable
    candidates = (f"python3.{minor}" for minor in range(rival.below[1] - 1, 9, -1))
    found = next(filter(None, map(shutil.which, candidates)), None)
    if found is None:
        below = ".".join(map(str, rival.below))
        raise SystemExit(f"bench: {rival.name} needs a Python below {below}, and none is on the PATH")
    return found


def _do(name: str, command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"bench: {name} could not be installed, so it cannot be measured.\n$ {' '.join(command)}\n{done.stdout}"
        )


def _wait_for(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    deadline = time.monotonic() + rig.READY_S
    while True:
        with contextlib.suppress(OSError), contextlib.closing(http.Connection(port, 5.0)) as link:
            link.send(http.request("GET", path))
            link.receive()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"bench: {process.args!r} does not get ready; what it said stands above")
        time.sleep(0.05)
