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
from tests.inference.environments import house
from tests.support import agent as agents

ROOT = Path(agent.__file__).parents[1]
PAGE = ROOT / "docs" / "customize.md"
MODELS, RUNTIMES = re.split(r"^(?=## A new runtime$)", PAGE.read_text(), flags=re.MULTILINE)
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(command: str, folder: Path) -> str:
    """What ``verge`` says; it fails exactly where the page shows an error."""
    words = shlex.split(command)
    assert words[0] == "verge"
    said = subprocess.run(
        [sys.executable, "-m", "agent", *words[1:]], cwd=folder, env={"PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = "verge: " in said.stderr or "FAILED" in said.stdout
    assert (said.returncode != 0) == failed, said.stdout + said.stderr
    return said.stdout + said.stderr


def shows(line: str, said: str) -> bool:
    """Whether one of the lines said is the page's, in which … stands for anything."""
    pattern = re.compile(".*".join(map(re.escape, line.strip().split("…"))))
    return any(pattern.match(each.strip()) for each in said.splitlines())


def session(text: str, folder: Path) -> int:
    """Write the text's files, run its commands in a folder; the result is how many they were."""
    commands = 0
    for kind, name, block in _BLOCK.findall(text):
        if name:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(block)
        if kind != "console":
            continue
        said = ""
        for line in block.splitlines():
            if line.startswith("$ "):
                said = run(line[2:], folder)
                commands += 1
            else:
                assert shows(line, said), f"{line!r} is not in:\n{said}"
    return commands


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
