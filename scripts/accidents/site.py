"""What the accidents happen to: a broker, a link that can be cut, the agent, its disk and its clock.

The disk is a small file system of its own in memory where this process may mount one (as root); without it the
accidents of disks are left out.  Every process is ended by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import tomli_w

from scripts.benchmarks import cpu, rig

THING = "chaos"
BASE = f"verge/{THING}"
DISK_BYTES = 96_000_000
_PLUGINS = Path(__file__).parent / "plugins"
_CLOCK = Path(__file__).parent / "clock.py"
_READY_S = 60.0


class Broker:
    """A mosquitto with a store, so that a stop loses nothing."""

    def __init__(self, folder: Path) -> None:
        self.port = rig.free_port()
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        user = "user root\n" if os.geteuid() == 0 else ""
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n{user}"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 1\n"
        )

    async def start(self) -> None:
        """Run until it accepts connections."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise SystemExit("chaos: mosquitto is not installed; 'apt-get install mosquitto' adds it")
        with (self._folder / "mosquitto.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                program, "-c", str(self._folder / "mosquitto.conf"), stdout=log, stderr=log
            )
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
        raise SystemExit("chaos: the broker does not start")

    async def end(self, how: signal.Signals) -> None:
        """Have it go, and wait until it is gone."""
        assert self._process is not None
        self._process.send_signal(how)
        await self._process.wait()

    def signal(self, how: signal.Signals) -> None:
        """Stop it in its tracks, or let it go on."""
        assert self._process is not None
        self._process.send_signal(how)


class Link:
    """A proxy between the agent and the broker that can be cut."""

    def __init__(self, to: int) -> None:
        self.open = True
        self._to = to
        self._writers: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        """Relay until left; the result is the port."""
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            self.cut()
            server.close()

    def cut(self) -> None:
        """Break what is open and let nothing in."""
        self.open = False
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if self.open:
                from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._to)
                self._writers |= {writer, to_broker}
                await asyncio.gather(rig.copy(reader, to_broker), rig.copy(from_broker, writer))
                self._writers -= {writer, to_broker}
        writer.close()


class Disk:
    """The agent's data folder, on a file system that can be filled and made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounted = False
        folder.mkdir()

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Mounted, where that is allowed."""
        options = f"size={DISK_BYTES},mode=0700"
        mounting = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], capture_output=True, check=False
        )
        self.mounted = mounting.returncode == 0
        try:
            yield
        finally:
            if self.mounted:
                subprocess.run(["umount", "-l", str(self.folder)], check=False)

    def fill(self) -> None:
        """Leave no byte."""
        with contextlib.suppress(OSError), (self.folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65_536))

    def clear(self) -> None:
        """Give the room back."""
        (self.folder / "ballast").unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """``ro`` or ``rw``; nobody may have a file open for writing."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True)


class Agent:
    """The agent as a process, and whoever starts it again."""

    def __init__(self, folder: Path, disk: Disk, port: int) -> None:
        self._folder = folder
        self._clock = folder / "clock"
        self._process: asyncio.subprocess.Process | None = None
        self.starts = 0
        self.set_clock(0)
        link = {"port": port, "client_id": THING, "clean_start": False, "session_expiry_s": 3600, "outbox": {}}
        config = {
            "thing": THING,
            "data_dir": str(disk.folder),
            "transports": {"local": link | {"backoff_base_s": 0.05, "backoff_cap_s": 0.5}},
            "deployments": {"accept": "anyone-on-this-broker", "jobs": False, "shadow": False, "health": False},
            "status": {"statistics_interval_s": 1.0},
        }
        (folder / "verge.toml").write_bytes(tomli_w.dumps(config).encode())

    @property
    def pid(self) -> int:
        """Of the core."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.returncode is None

    def workers(self) -> list[int]:
        """The processes of the core."""
        return [pid for pid in cpu.tree(self.pid) if pid != self.pid] if self.alive else []

    def set_clock(self, seconds: int) -> None:
        """Have the agent's clock be so many seconds ahead."""
        self._clock.write_text(str(seconds))

    async def start(self) -> None:
        """Start it."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("VERGE_")}
        environment |= {"PYTHONPATH": f"{_PLUGINS}{os.pathsep}{Path.cwd()}"}
        command = [
            sys.executable,
            str(_CLOCK),
            str(self._clock),
            "agent",
            "run",
            "-c",
            str(self._folder / "verge.toml"),
        ]
        with (self._folder / "agent.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env=environment)
        self.starts += 1

    async def end(self, how: signal.Signals) -> None:
        """End it and wait until it is gone."""
        assert self._process is not None
        if self.alive:
            self._process.send_signal(how)
        await self._process.wait()

    async def watched(self) -> None:
        """Start it again whenever it ended by itself, until cancelled."""
        while True:
            await asyncio.sleep(0.05)
            if not self.alive and not self.held:
                await self.start()

    held = False
    """Whether it is to stay down for now."""

    @property
    def log(self) -> Path:
        """What it wrote."""
        return self._folder / "agent.log"
