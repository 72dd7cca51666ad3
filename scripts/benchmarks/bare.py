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

from agent.config.models import ModelOptions
from agent.inference.manifest import resolve
from agent.inference.runtime import decode
from agent.inference.runtime.session import Session
from scripts.benchmarks import WARM, frames


def measure(model: str, pictures: Path, seconds: float) -> dict[str, float]:
    """``fps`` and ``cpu_ms`` a frame of the plain loop, one thread."""
    command = [sys.executable, "-m", "scripts.benchmarks.bare", model, str(pictures), str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"bench: the plain loop failed\n{done.stderr}")
    told: dict[str, float] = json.loads(done.stdout)
    return told


def loop(model: str, pictures: list[bytes], seconds: float) -> dict[str, float]:
    """Run it here."""
    session = Session(resolve(ModelOptions(source=model), Path.cwd()).request(threads=1)["model"])

    def once(number: int) -> None:
        picture = decode.decode(pictures[number % len(pictures)], "jpeg", session.preprocess.cover)
        array, _ = session.preprocess(picture)
        session.backend.run([array])

    for number in range(WARM):
        once(number)
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - start) < seconds:
        once(count)
        count += 1
    return {"fps": count / elapsed, "cpu_ms": (time.process_time() - cpu) * 1e3 / count}


if __name__ == "__main__":
    # What native code prints goes to standard error, the figures alone to standard output.
    answer = os.dup(1)
    os.dup2(2, 1)
    figures = loop(sys.argv[1], frames.read(Path(sys.argv[2])), float(sys.argv[3]))
    os.write(answer, json.dumps(figures).encode())
