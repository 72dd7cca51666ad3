"""Processes for a measurement, on loopback, ended by their ids when it is done; a real mosquitto among them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks import cpu

READY_S = 60.0
LEAVE_S = 20.0


@dataclass(frozen=True)
class Broker:
    """A running mosquitto."""

    port: int
    pid: int


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="verge-bench-") as path:
        yield Path(path)


@contextlib.contextmanager
def mosquitto(work: Path, lines: Sequence[str] = ()) -> Iterator[Broker]:
    """A broker on a free loopback port; ``lines`` are added to its configuration."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise SystemExit("bench: mosquitto is not installed; 'apt-get install mosquitto' adds it")
    port = free_port()
    config = work / "mosquitto.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n{user}"
        + "".join(f"{line}\n" for line in lines)
    )
    with running([program, "-c", str(config)], work / "mosquitto.log") as process:
        wait_for_port(process, port)
        yield Broker(port, process.pid)


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that starts in ``folder`` and writes to a log file; it and what it started are ended on leaving."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | (environment or {}),
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        family = cpu.tree(process.pid) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in family[1:]:  # what outlives the process that started it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the process accepts connections."""
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"bench: {process.args!r} does not answer on its port")
        time.sleep(0.005)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction of a connection until it ends."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
