"""What the model alone can do: decode, preprocess and invoke in a plain loop, in a process of its own.

The loop uses the worker's own decoding and preprocessing, so that it is as fast as they are and the ratio
to it shows what the way through the agent costs, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from agent.inference.manifest import ModelOptions, resolve
from agent.inference.runtime import decode
from agent.inference.runtime.session import Session
from scripts.benchmarks.frames import frames


def measure(model: str, seconds: float) -> float:
    """Frames per second of the plain loop, one thread."""
    command = [sys.executable, "-m", "scripts.benchmarks.bare", model, str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(done.stdout)["fps"])


def loop(model: str, seconds: float) -> float:
    """Run it here."""
    session = Session(resolve(ModelOptions(source=model), Path.cwd()).request(threads=1)["model"])
    pictures = frames()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        picture = decode.decode(pictures[count % len(pictures)], "jpeg", session.preprocess.cover)
        array, _ = session.preprocess(picture)
        session.backend.run([array])
        count += 1
    return count / elapsed


if __name__ == "__main__":
    # What native code prints goes to standard error, the figure alone to standard output.
    answer = os.dup(1)
    os.dup2(2, 1)
    figure = loop(sys.argv[1], float(sys.argv[2]))
    os.write(answer, json.dumps({"fps": figure}).encode())
