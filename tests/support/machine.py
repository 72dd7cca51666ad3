"""What this machine takes for a piece of work now, for limits that hold on an idle machine and on a busy one."""

from __future__ import annotations

import subprocess
import sys
import time


def process_start_s() -> float:
    """Seconds until a process has what a worker imports."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import cv2, numpy"], check=True)
    return time.monotonic() - began
