"""A minute of accidents with a fixed seed: broker, link, disk, clock, files, pictures, deployments."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.machine import process_start_s

CHECKOUT = Path(__file__).parents[2]
DARK_S = 5.0
IDLE_START_S = 0.3
"""What a process takes to start where nothing else runs."""
STARTS = 10
"""How many such starts go into the return of an agent: its own, its workers' and the loading of the model."""


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")
def test_a_minute_of_accidents_breaks_no_promise(tmp_path):
    log, progress = tmp_path / "agent.log", tmp_path / "progress"
    command = [sys.executable, "-m", "scripts.accidents", "--minutes", "1", "--seed", "7", "--json", "--log", str(log)]
    slowest_s = 0.0
    with progress.open("wb") as errors:
        chaos = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=errors)
        try:
            while chaos.poll() is None:
                # What else runs on this machine makes every start longer, and is no fault of the agent's.
                slowest_s = max(slowest_s, process_start_s())
                time.sleep(2.0)
        finally:
            if chaos.poll() is None:
                chaos.terminate()
                chaos.wait()
    assert chaos.stdout is not None
    with chaos.stdout as output:
        figures = json.loads(output.read() or b"{}")
    print(progress.read_text(), figures, log.read_text() if log.exists() else "", sep="\n")
    promised = {"frames_unaccounted": 0, "results_lost": 0, "undefined_sets": 0, "recovered": True}
    assert {name: figures.get(name) for name in promised} == promised
    assert figures["longest_dark_s"] <= DARK_S + STARTS * max(0.0, slowest_s - IDLE_START_S)
    assert figures["answered"] > 200
    assert len(figures["accidents"]) >= 8
