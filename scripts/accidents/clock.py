"""Start a program with a clock that is off by as many seconds as a file says, at any moment.

``clock.py FILE MODULE ARGUMENT...``: only ``time.time`` and ``time.time_ns`` of this process are moved, as a change of
the system's clock would move them; what is monotonic stays.
"""

import runpy
import sys
import time
from pathlib import Path

_LOOK_S = 0.05


def move(path: Path) -> None:
    """Have the clock follow the file."""
    real_time, real_ns = time.time, time.time_ns
    looked, offset = 0.0, 0

    def off() -> int:
        nonlocal looked, offset
        now = time.monotonic()
        if now - looked > _LOOK_S:
            text = path.read_text()
            looked, offset = now, int(text) if text else offset
        return offset

    time.time = lambda: real_time() + off()
    time.time_ns = lambda: real_ns() + off() * 1_000_000_000


if __name__ == "__main__":
    move(Path(sys.argv[1]))
    module, sys.argv = sys.argv[2], sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
