"""Blocking work in a thread of its own, which neither a cancellation nor the end of the program waits for.

A connection attempt cannot be broken off; whoever has no use for its answer leaves it behind to end at its timeout.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

__all__ = ["detached"]

Answer = TypeVar("Answer")


def detached(work: Callable[[], Answer], name: str) -> Future[Answer]:
    """The answer of ``work``, to come; its thread is called ``name``."""
    answer: Future[Answer] = Future()

    def run() -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(work())
        except BaseException as error:  # noqa: BLE001 it is raised where the answer is awaited
            answer.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return answer
