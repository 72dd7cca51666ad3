"""``scripts/bench fleet``: one job for a whole fleet, through a real ``verge jobs serve`` and a real mosquitto.

The things are simulated by one connection that stands for all of them and speaks the protocol of AWS IoT Jobs: each
that is notified asks for its next job, gets it, reports that it succeeded, and is told that this was taken.  Nothing is
repeated: what is lost anywhere on the way is missing at the end.

``lost_notifications``  things that never learned of the job
``unfinished``          things that did, and whose success the service has not confirmed
``executions_per_s``    finished executions over the seconds from the job's request to the last confirmation
``cpu_ms_per_thing``    processor time of the service in that time, for each thing
``rss_mb``              the most memory that the service had in that time; ``idle_rss_mb`` before
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.aws.jobs.service.caller import calling
from agent.config.transports import MqttOptions
from agent.errors import UnreachableError
from agent.mqtt.client import MqttTransport
from scripts.benchmarks import cpu, rig
from scripts.benchmarks.mqtt import Connection, publish

AIMS = {"lost_notifications": ("=", 0), "unfinished": ("=", 0)}

_THINGS = "$aws/things/"
_GROUP = "fleet"
_CHUNK = 10_000
"""Things that join the group in one request."""
_ANSWER_S = 20.0
_SILENCE_S = 30.0
"""If nothing comes for so long, nothing more will."""
_PACKET_IDS = 65_535
_BROKER = ("max_queued_messages 0",)
"""Each device has a queue of its own at the broker; here one connection has the queue of all."""


class _Execution(msgspec.Struct, rename="camel"):
    job_id: str


class _Told(msgspec.Struct):
    """What a device reads of a notification and of an answer."""

    execution: _Execution | None = None


_told = msgspec.json.Decoder(_Told).decode


class Fleet:
    """Things ``0`` to ``count - 1`` over one connection, each at its own place in the conversation."""

    def __init__(self, port: int, count: int) -> None:
        self.notified: set[str] = set()
        self.finished: set[str] = set()
        self._count = count
        self._sent = 0
        self._connection = Connection(port, _SILENCE_S)
        for tail in ("notify-next", "start-next/accepted", "+/update/accepted"):
            self._connection.subscribe(f"{_THINGS}+/jobs/{tail}")

    def run(self, give_up: float) -> None:
        """Do what each thing is told, until all have finished, nothing comes any more, or it is ``give_up``."""
        while len(self.finished) < self._count and time.monotonic() < give_up:
            try:
                topic, payload = self._connection.receive()
            except TimeoutError:
                return
            thing, _, tail = topic.removeprefix(_THINGS).partition("/jobs/")
            self._take(thing, tail, payload)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _take(self, thing: str, tail: str, payload: bytes) -> None:
        if tail.endswith("update/accepted"):
            self.finished.add(thing)
        elif (execution := _told(payload).execution) is None:
            return
        elif tail == "notify-next":
            if thing not in self.notified:
                self.notified.add(thing)
                self._ask(thing, "start-next", b"{}")
        else:
            self._ask(thing, f"{execution.job_id}/update", b'{"status":"SUCCEEDED"}')

    def _ask(self, thing: str, tail: str, payload: bytes) -> None:
        self._sent += 1
        self._connection.send(publish(f"{_THINGS}{thing}/jobs/{tail}", payload, self._sent % _PACKET_IDS + 1))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench fleet", description="The Jobs service and a simulated fleet.")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--things", type=int, default=10_000, help="how many devices (%(default)s)")
    parser.add_argument("--minutes", type=float, default=15.0, help="the longest that it may take (%(default)s)")
    options = parser.parse_args(arguments)
    if options.things < 1:
        parser.error("--things: at least one")
    told = measure(options.things, options.minutes * 60)
    print(json.dumps(told) if options.json else table(told))


def table(told: Mapping[str, Any]) -> str:
    """For people."""
    rows = ((name, value, " ".join(map(str, AIMS.get(name, ())))) for name, value in told.items())
    return "\n".join(f"{name:<22}{value!s:>12}{aim:>10}".rstrip() for name, value, aim in rows)


def measure(things: int, longest_s: float) -> dict[str, Any]:
    """Every figure."""
    with rig.folder() as work, rig.mosquitto(work, _BROKER) as broker:
        command = [sys.executable, "-m", "agent", "jobs", "serve", "--broker", f"mqtt://127.0.0.1:{broker.port}"]
        with rig.running([*command, "--data", str(work / "jobs")], work / "jobs.log") as service:
            asyncio.run(_join(broker.port, things))
            return _roll_out(broker.port, service.pid, things, longest_s)


async def _join(port: int, things: int) -> None:
    """Put every thing into the group."""
    names = [f"thing-{number}" for number in range(things)]
    for start in range(0, things, _CHUNK):
        await _ask(port, "group-add", {"group": _GROUP, "things": names[start : start + _CHUNK]})


async def _ask(port: int, verb: str, request: dict[str, Any]) -> None:
    """Ask the service as ``verge jobs`` does; one that is still coming up is asked again."""
    deadline = time.monotonic() + rig.READY_S
    async with MqttTransport("bench", MqttOptions(port=port)) as transport, calling(transport) as caller:
        await transport.wait_connected(rig.READY_S)
        while True:
            try:
                await caller.ask(verb, request, timeout_s=_ANSWER_S)
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
            else:
                return


def _roll_out(port: int, service: int, things: int, longest_s: float) -> dict[str, Any]:
    idle_mb, before_s, begun = _memory_mb(service, "VmRSS"), cpu.seconds([service]), time.monotonic()
    fleet = Fleet(port, things)
    job = {"jobId": "everywhere", "targets": [f"group:{_GROUP}"], "document": {"operation": "bench"}}
    asyncio.run(_ask(port, "create", job))
    fleet.run(begun + longest_s)
    taken_s, used_s = time.monotonic() - begun, cpu.seconds([service]) - before_s
    fleet.close()
    return {
        "things": things,
        "lost_notifications": things - len(fleet.notified),
        "unfinished": len(fleet.notified) - len(fleet.finished),
        "executions_per_s": round(len(fleet.finished) / taken_s, 1),
        "cpu_ms_per_thing": round(1e3 * used_s / things, 3),
        "rss_mb": _memory_mb(service, "VmHWM"),
        "idle_rss_mb": idle_mb,
        "seconds": round(taken_s, 1),
    }


def _memory_mb(pid: int, field: str) -> float:
    """``VmRSS``, what a process has in memory, or ``VmHWM``, the most that it had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024, 1)
