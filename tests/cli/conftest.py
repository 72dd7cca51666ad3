"""The command as a user runs it: a process of its own, real workers, and what it printed."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess, Popen

import pytest

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "agent")


def environment(**changes: str) -> dict[str, str]:
    """The test's own, wide enough for a line, with ``PYTHONPATH`` put before the repository."""
    path = os.pathsep.join(filter(None, (changes.pop("PYTHONPATH", ""), str(ROOT))))
    return os.environ | {"COLUMNS": "100", "PYTHONPATH": path} | changes


@pytest.fixture
def verge(tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    """Run ``verge`` with these arguments in an empty folder and wait for it."""

    def run(*arguments: object, stdin: bytes = b"", **changes: str) -> CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            input=stdin, capture_output=True, cwd=tmp_path, env=environment(**changes), timeout=120, check=False,
        )  # fmt: skip
        return CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Popen[str]]]:
    """Start ``verge`` with these arguments and leave it running; it is killed when the test ends."""
    running: list[Popen[str]] = []

    def start(*arguments: object) -> Popen[str]:
        process = Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment(),
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        with process:
            process.kill()


@pytest.fixture
def plain_broker() -> Iterator[int]:
    """The port of a broker that says on each connection that it has no wildcards; it serves nothing else."""
    connack = bytes([0x20, 5, 0, 0, 2, 0x28, 0])

    class Connection(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(connack)
            while self.request.recv(4096):
                pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def without(tmp_path: Path) -> Callable[[str], str]:
    """A folder for ``PYTHONPATH`` in which a package is not installed."""

    def folder(package: str) -> str:
        path = tmp_path / f"without-{package}"
        path.mkdir()
        lines = f"raise ModuleNotFoundError(\"No module named '{package}'\", name={package!r})\n"
        (path / f"{package}.py").write_text(lines)
        return str(path)

    return folder
