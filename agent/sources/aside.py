"""Blocking work beside the event loop, in a thread that nobody waits for at the end.

Not the loop's executor: a file on a share that is gone blocks a read for ever, the executor has few threads, and the
interpreter waits for them when it ends.  A daemon thread costs about 0.1 ms, which is little beside a picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["aside"]

Outcome = TypeVar("Outcome")


async def aside(work: Callable[[], Outcome], name: str) -> Outcome:
    """The result of ``work``, done in a thread; raises what it raises."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Outcome] = loop.create_future()

    def settle(outcome: Outcome | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(outcome)  # type: ignore[arg-type]  # None only where the work's result is

    def run() -> None:
        outcome, error = None, None
        try:
            outcome = work()
        except Exception as raised:  # noqa: BLE001 it is raised where it is waited for
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, outcome, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
