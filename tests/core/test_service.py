"""A service in a process of its own, and real signals."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

HANGING = """
import asyncio, sys
from agent import service

class Part:
    async def __aenter__(self):
        print("entering", flush=True)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("cancelled", flush=True)
                if "stubborn" not in sys.argv:
                    raise

    async def __aexit__(self, *error):
        print("left", flush=True)

service._GRACE_S = 0.3
print(asyncio.run(service.serve(Part(), lambda: print("ready"))).name)
"""


@contextmanager
def entering(*how: str) -> Iterator[subprocess.Popen[str]]:
    """A service whose part never finishes being entered."""
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, *how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "entering\n"
        yield process
        process.kill()


def test_a_signal_while_the_part_is_entered_cancels_the_entering() -> None:
    with entering() as process:
        process.send_signal(signal.SIGTERM)
        told, errors = process.communicate(timeout=10)
    assert (told, errors, process.returncode) == ("cancelled\nSIGTERM\n", "", 0)


def test_a_part_that_cannot_be_cancelled_is_given_up_when_the_grace_is_over() -> None:
    with entering("stubborn") as process:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        told, errors = process.communicate(timeout=10)
    assert (told, process.returncode) == ("cancelled\n", -signal.SIGTERM)
    assert "not stopped within 0.3 s" in errors
    assert time.monotonic() - began >= 0.3
