"""The demo's fleet owner: a Jobs service as a child process, and jobs that are created, timed and followed.

The way is the real one: a job is created over MQTT, the service offers it on the reserved topics of AWS IoT Jobs, the
agent takes it, deploys and reports.  The clock runs from the request for the job to the agent's last payload.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from agent.aws.jobs.service.caller import Caller, calling
from agent.demo.broker import HOST, USER, Broker
from agent.demo.child import ChildProgram
from agent.errors import UnreachableError
from agent.mqtt.factory import create
from agent.mqtt.transport import Message, Transport
from agent.topics import Topics

__all__ = ["JobEnd", "Jobs"]

_READY_S = 30.0
_AGAIN_S = 0.5
_END_S = 60.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a job: Greengrass's detailed status, why, how long it took, and why without what to do about it."""

    status: str
    reason: str
    seconds: float
    cause: str = ""


class Jobs:
    """Runs jobs on one thing, one after the other; made by ``serving``."""

    def __init__(self, caller: Caller, thing: str) -> None:
        self._caller = caller
        self._thing = thing
        self._numbers = itertools.count(1)
        self._ends: dict[str, asyncio.Future[tuple[float, dict[str, Any]]]] = {}

    @classmethod
    @asynccontextmanager
    async def serving(cls, broker: Broker, thing: str, prefix: str, folder: Path) -> AsyncIterator[Self]:
        """A Jobs service on the broker until the context is left; ``prefix`` is that of AWS's topics."""
        serve = ("jobs", "serve", "--broker", f"mqtt://{HOST}:{broker.port}", "--data", str(folder / "jobs"))
        arguments = [sys.executable, "-m", "agent", *serve, "--prefix", prefix]
        if broker.password_file:
            arguments += ["--username", USER, "--password-file", str(broker.password_file)]
        async with (
            ChildProgram("jobs service", arguments, folder / "jobs.log") as child,
            create("jobs", broker.options) as bus,
            calling(bus) as caller,
        ):
            jobs = cls(caller, thing)
            jobs._follow(bus)
            await _until_it_answers(caller, child)
            yield jobs

    async def run(self, document: Mapping[str, Any]) -> JobEnd:
        """Have the thing do a deployment and wait for its end.

        Raises ``JobError``, and ``UnreachableError`` when it does not end in time.
        """
        identity = f"demo-{next(self._numbers)}"
        ended = self._ends[identity] = asyncio.get_running_loop().create_future()
        request = {"jobId": identity, "targets": [self._thing], "document": document}
        began = time.monotonic()
        try:
            async with asyncio.timeout(_END_S):
                await self._caller.ask("create", request)
                at, payload = await ended
                while (await self._caller.ask("describe", {"jobId": identity}))["status"] == "IN_PROGRESS":  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)  # the agent's report to the service is under way
        except TimeoutError:
            raise UnreachableError(f"job {identity} did not end within {_END_S:g} s", code="no-end") from None
        (execution,) = await self._caller.ask("executions", {"jobId": identity})
        status = execution["statusDetails"]["detailed-deployment-status"]
        reason, cause = str(payload.get("failureCause", "")), str(payload.get("cause", ""))
        return JobEnd(status, reason, round(at - began, 3), cause)

    def _follow(self, bus: Transport) -> None:
        bus.subscribe(f"{Topics(self._thing).base}/deployments/+", self._on_deployment, qos=1)

    def _on_deployment(self, message: Message) -> None:
        payload = msgspec.json.decode(message.payload)
        waiting = self._ends.get(payload["id"])
        if payload["status"] not in {"QUEUED", "IN_PROGRESS"} and waiting is not None and not waiting.done():
            waiting.set_result((time.monotonic(), payload))


async def _until_it_answers(caller: Caller, child: ChildProgram) -> None:
    give_up = time.monotonic() + _READY_S
    while child.alive and time.monotonic() < give_up:
        with suppress(UnreachableError):
            await caller.ask("list", timeout_s=_AGAIN_S)
            return
    if not child.alive:
        raise child.end_error()
    raise UnreachableError(f"the Jobs service is not ready after {_READY_S:g} s\n{child.last_lines()}")
