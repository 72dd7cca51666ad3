"""The page on customizing is a session that was run: its files are written, its commands answer what it shows."""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import agent
from agent.inference.manifest import SAMPLES
from agent.inference.runtime import plugins
from agent.inference.runtime.tasks.detection import DECODERS
from tests.inference.environments import house
from tests.support import agent as agents
from tests.support.pages import run, session

ROOT = Path(agent.__file__).parents[1]
PAGE = ROOT / "docs" / "customize.md"
MODELS, RUNTIMES = re.split(r"^(?=## A new runtime$)", PAGE.read_text(), flags=re.MULTILINE)


def begun(folder: Path) -> None:
    """What the page says is there before it begins."""
    shutil.copytree(SAMPLES / "classifier", folder / "mine", ignore=shutil.ignore_patterns("*.toml", "*.md"))
    (folder / "mine" / "model.tflite").rename(folder / "mine" / "mine.tflite")
    shutil.copy(SAMPLES.parent / "images" / "chelsea.jpg", folder / "photo.jpg")


def test_the_session_on_the_page_runs_as_it_is_shown(tmp_path) -> None:
    begun(tmp_path)
    assert session(MODELS, tmp_path) >= 10


def test_the_runtime_on_the_page_is_built_offline_refused_and_made_by_hand_as_it_is_shown(
    broker, thing, tmp_path
) -> None:
    house.downloaded(tmp_path / "com.example.Runtime" / "wheels", "tflite_runtime*", "numpy-1.26*", "opencv*4.10*")
    begun(tmp_path)
    run("verge component init model com.example.Cats --model mine", tmp_path)
    run("verge component pack com.example.Cats --out build", tmp_path)
    by_hand, other = str(tmp_path / "by-hand"), {"jobs": False, "shadow": False, "run_as": getpass.getuser()}
    text = RUNTIMES.replace("/opt/litert", by_hand).replace("edge-1", thing)
    for line in re.findall(r"^```text\n(\$.*?)^```$", text, re.DOTALL | re.MULTILINE)[0].splitlines():
        words = shlex.split(line.removeprefix("$ ").replace("python3 ", f"{sys.executable} ", 1))
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    config = agents.configuration(thing, broker.port, tmp_path, {}, deployments=other) | {"models": {}, "streams": {}}
    with agents.running(config, tmp_path) as running:
        assert session(text, tmp_path) >= 5
        model = running.peer.wait(running.topic("components/com.example.Cats"), lambda told: told["state"] == "RUNNING")
    assert model["model"]["backend"] == "litert 2.14.0"


def test_the_page_lists_every_head_of_a_detector_and_every_task() -> None:
    named = set(re.findall(r"`([a-z0-9-]+)`", PAGE.read_text()))
    assert {decoder.name for decoder in DECODERS} | set(plugins.TASKS) <= named
