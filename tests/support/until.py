"""Wait for what no event announces: look again and again until it is so."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

Value = TypeVar("Value")

PATIENCE_S = 60.0
"""After this long it will not be so any more, however busy the machine is."""
_PAUSE_S, _TURNS = 0.005, 20


async def until(
    condition: Callable[[], Value | Awaitable[Value]], timeout_s: float = PATIENCE_S, *, why: Callable[[], object] = str
) -> Value:
    """What the condition gives once that is true; while it is not, ``why`` may tell more (a log, say).

    Raises ``AssertionError`` when it is not so within ``timeout_s``, also where the condition does not return.
    """
    value: object = "nothing yet"
    try:
        async with asyncio.timeout(timeout_s):
            turns = 0
            while True:
                value = condition()
                if inspect.isawaitable(value):
                    value = await value
                if value:
                    return cast("Value", value)
                # What other tasks of this loop bring about is there in a few turns.
                await asyncio.sleep(0 if turns < _TURNS else _PAUSE_S)
                turns += 1
    except TimeoutError:
        raise AssertionError(_complaint(condition, timeout_s, value, why)) from None


def until_sync(
    condition: Callable[[], Value], timeout_s: float = PATIENCE_S, *, why: Callable[[], object] = str
) -> Value:
    """``until``, for tests without an event loop."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(_complaint(condition, timeout_s, value, why))
        time.sleep(_PAUSE_S)
    return value


def _complaint(condition: Callable[[], object], timeout_s: float, value: object, why: Callable[[], object]) -> str:
    try:
        source = inspect.getsource(condition).strip()
    except (OSError, TypeError):  # it was written in no file, or in C
        source = repr(condition)
    return f"not so within {timeout_s:g} s: {source}\nlast: {value!r}\n{why()}".rstrip()
