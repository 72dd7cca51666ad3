"""A deployment for a group: a job of the Jobs service on the broker, followed until every thing is through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from agent.aws.jobs.service.caller import calling
from agent.cli import remote
from agent.config.load import Config
from agent.errors import UnreachableError

__all__ = ["counted", "exit_status", "rolled_out"]

_LOOK_S = 0.5
_OPEN = ("WAITING", "QUEUED", "IN_PROGRESS")

Told = Mapping[str, Any]


async def rolled_out(
    config: Config, group: str, identity: str, document: bytes, told: Callable[[str], None], *, timeout_s: float | None
) -> tuple[Told, list[Told]]:
    """The job and its executions, once it ended; with ``timeout_s`` None as soon as it is made.

    Raises ``JobError``, and ``UnreachableError`` where there is no Jobs service or the time is over.
    """
    request = {"jobId": identity, "targets": [f"group:{group}"], "document": msgspec.Raw(document)}
    async with remote.link(config) as visit, calling(visit) as caller:
        job = await caller.ask("create", request)
        if timeout_s is None:
            return job, []
        try:
            async with asyncio.timeout(timeout_s):
                while job["status"] == "IN_PROGRESS":
                    told(counted(job))
                    await asyncio.sleep(_LOOK_S)
                    with suppress(UnreachableError):  # a service or broker that restarts is waited for
                        job = await caller.ask("describe", {"jobId": identity})
        except TimeoutError:
            hint = f"it goes on: verge jobs describe {identity}"
            raise UnreachableError(
                f"job {identity}: {counted(job)} after {timeout_s:g} s", code="no-end", hint=hint
            ) from None
        return job, await caller.ask("executions", {"jobId": identity})


def exit_status(job: Told) -> int:
    """0 when all succeeded, 2 when nothing worse happened than that things did not take it up, 1 otherwise.

    A group without things is no success.

    >>> exit_status({"processDetails": {"SUCCEEDED": 2, "FAILED": 0}}), exit_status({"processDetails": {}})
    (0, 1)
    """
    counts = {key: count for key, count in job["processDetails"].items() if count}
    if counts.keys() == {"SUCCEEDED"}:
        return 0
    if not counts:
        return 1
    return 2 if not counts.keys() - {"SUCCEEDED", "REJECTED"} else 1


def counted(job: Told) -> str:
    """How many things are through.

    >>> counted({"processDetails": {"WAITING": 0, "QUEUED": 1, "SUCCEEDED": 2}})
    '2 of 3 things are through'
    """
    counts = job["processDetails"]
    total, waiting = sum(counts.values()), sum(counts.get(key, 0) for key in _OPEN)
    return f"{total - waiting} of {total} things are through"
