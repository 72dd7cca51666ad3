"""A run in which the broker is stopped and killed, the connection cut and the agent killed, all at random.

The agent's connection goes through a proxy, which lets it in only while the receiver is subscribed: what a broker
without sessions and without a reader does with a message it acknowledged is not the outbox's affair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.config.transports import MqttOptions
from agent.errors import VergeError
from agent.mqtt.factory import create
from agent.mqtt.outbox.record import ID
from agent.mqtt.transport import Message, Transport
from scripts.benchmarks import outbox_parts as parts
from scripts.benchmarks import rig


@dataclass
class Heard:
    """What the receiver saw."""

    identity: dict[int, str] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, came: Message) -> None:
        number = parts.number_of(came.payload)
        found = next(value for key, value in came.user_properties if key == ID)
        if number in self.identity:
            self.counts["duplicates_by_id" if self.identity[number] == found else "duplicates_other"] += 1
            return
        self.identity[number] = found
        self.counts["out_of_order"] += number < self.last.get(came.topic, -1)
        self.last[came.topic] = max(number, self.last.get(came.topic, -1))


class Chaos:
    """A broker, a proxy in front of it, a receiver behind it, and an agent; each has its accidents."""

    def __init__(self, folder: Path, seconds: float) -> None:
        folder.mkdir()
        self._folder = folder
        self._seconds = seconds
        self._port = rig.free_port()
        self._heard = Heard()
        self._acknowledged: set[int] = set()
        self._accidents: Counter[str] = Counter()
        self._chance = random.Random(5)
        self._open = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._broker: asyncio.subprocess.Process
        self._subscribed = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        """What came of it."""
        receiving = MqttOptions(port=self._port, backoff_base_s=0.02, backoff_cap_s=0.1, receive_maximum=60_000)
        await self._start_broker()
        async with (
            create("receiver", receiving) as receiver,
            await asyncio.start_server(self._relay, "127.0.0.1", 0) as proxy,
        ):
            # QoS 0: written before the publisher gets its PUBACK, and nothing of ours unread when the broker dies.
            receiver.subscribe("bench/results/+", self._heard)
            receiver.subscribe("bench/mark", lambda _: self._subscribed.set())
            port = proxy.sockets[0].getsockname()[1]
            await self._let_in(receiver)
            breaking = asyncio.create_task(self._break(receiver))
            end, lives = time.monotonic() + self._seconds, 0
            while time.monotonic() < end:
                await self._live(port, lives * parts.RUN, self._chance.uniform(0.1, 3.0))
                lives += 1
            breaking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await breaking
            if self._broker.returncode is not None:
                await self._start_broker()
            await self._let_in(receiver)
            await self._live(port, -1, parts.PATIENCE_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await parts.until(lambda: self._acknowledged <= self._heard.identity.keys())
        self._broker.kill()
        await self._broker.wait()
        return self._told(lives)

    def _told(self, lives: int) -> dict[str, Any]:
        counts = self._heard.counts
        return {
            "lost": len(self._acknowledged - self._heard.identity.keys()),
            "acknowledged": len(self._acknowledged),
            "duplicates_by_id": counts["duplicates_by_id"],
            "duplicates_other": counts["duplicates_other"],
            "out_of_order": counts["out_of_order"],
            "agent_kills": lives,
            **{
                f"broker_{name}s" if name != "cut" else "cuts": count for name, count in sorted(self._accidents.items())
            },
        }

    async def _live(self, port: int, start: int, life_s: float) -> None:
        command = [sys.executable, "-m", parts.MODULE, "victim"]
        child = await asyncio.create_subprocess_exec(
            *command, str(port), str(self._folder), str(start), stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        killing: asyncio.TimerHandle | None = None
        while line := await child.stdout.readline():
            if killing is None and start >= 0:
                killing = asyncio.get_running_loop().call_later(life_s, child.kill)
            if line.strip().isdigit() and line.endswith(b"\n"):
                self._acknowledged.add(int(line))
        await child.wait()

    async def _break(self, receiver: Transport) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(0.1, 2.0))
            accident = self._chance.choice(["cut", "stop", "kill"])
            self._accidents[accident] += 1
            if accident != "cut":
                (self._broker.terminate if accident == "stop" else self._broker.kill)()
                await self._broker.wait()
            self._cut()
            await asyncio.sleep(self._chance.uniform(0.0, 1.0))
            if accident != "cut":
                await self._start_broker()
            await self._let_in(receiver)

    async def _let_in(self, receiver: Transport) -> None:
        """Open the proxy once the receiver's subscription is in force."""
        self._subscribed.clear()
        while not self._subscribed.is_set():
            with contextlib.suppress(VergeError):
                receiver.publish(Message("bench/mark", b"", 0))
            await asyncio.sleep(0.02)
        self._open = True

    def _cut(self) -> None:
        self._open = False
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _start_broker(self) -> None:
        config = self._folder / "mosquitto.conf"
        user = "user root\n" if os.geteuid() == 0 else ""
        config.write_text(
            f"listener {self._port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n{user}"
        )
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise SystemExit("bench: mosquitto is not installed; 'apt-get install mosquitto' adds it")
        self._broker = await asyncio.create_subprocess_exec(
            program, "-c", str(config), stderr=asyncio.subprocess.DEVNULL
        )

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            if self._open:
                from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._port)
                self._writers |= {writer, to_broker}
                await asyncio.gather(rig.copy(reader, to_broker), rig.copy(from_broker, writer))
                self._writers -= {writer, to_broker}
        writer.close()
