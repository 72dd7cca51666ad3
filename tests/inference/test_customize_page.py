"""The page on customizing is a session that was run: its files are written, its commands answer what it shows."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import agent
from agent.inference.manifest import SAMPLES

ROOT = Path(agent.__file__).parents[1]
PAGE = ROOT / "docs" / "customize.md"
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(command: str, folder: Path) -> str:
    """What ``verge`` says; it fails exactly where the page shows an error."""
    words = shlex.split(command)
    assert words[0] == "verge"
    said = subprocess.run(
        [sys.executable, "-m", "agent", *words[1:]], cwd=folder, env={"PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode != 0) == ("verge: " in said.stderr), said.stderr
    return said.stdout + said.stderr


def shows(line: str, said: str) -> bool:
    """Whether one of the lines said is the page's, in which … stands for anything."""
    pattern = re.compile(".*".join(map(re.escape, line.strip().split("…"))))
    return any(pattern.match(each.strip()) for each in said.splitlines())


def test_the_session_on_the_page_runs_as_it_is_shown(tmp_path) -> None:
    shutil.copytree(SAMPLES / "classifier", tmp_path / "mine", ignore=shutil.ignore_patterns("*.toml", "*.md"))
    (tmp_path / "mine" / "model.tflite").rename(tmp_path / "mine" / "mine.tflite")
    shutil.copy(SAMPLES.parent / "images" / "chelsea.jpg", tmp_path / "photo.jpg")
    commands = 0
    for kind, name, text in _BLOCK.findall(PAGE.read_text()):
        if name:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        if kind != "console":
            continue
        said = ""
        for line in text.splitlines():
            if line.startswith("$ "):
                said = run(line[2:], tmp_path)
                commands += 1
            else:
                assert shows(line, said), f"{line!r} is not in:\n{said}"
    assert commands >= 10
