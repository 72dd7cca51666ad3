"""Pages that are sessions: their files are written, their commands answer what they show.

A block ``console`` holds commands behind ``$`` and lines that they say, in which … stands for anything; a block with a
name behind its language is that file.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import agent

_ROOT = Path(agent.__file__).parents[1]
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(command: str, folder: Path) -> str:
    """What ``verge`` says; it fails exactly where the page shows an error."""
    words = shlex.split(command)
    assert words[0] == "verge"
    said = subprocess.run(
        [sys.executable, "-m", "agent", *words[1:]], cwd=folder, env={"PYTHONPATH": str(_ROOT), "COLUMNS": "160"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    failed = "verge: " in said.stderr or "FAILED" in said.stdout
    assert (said.returncode != 0) == failed, said.stdout + said.stderr
    return said.stdout + said.stderr


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
                assert _shows(line, said), f"{line!r} is not in:\n{said}"
    return commands


def _shows(line: str, said: str) -> bool:
    """Whether one of the lines said is the page's."""
    pattern = re.compile(".*".join(map(re.escape, line.strip().split("…"))))
    return any(pattern.match(each.strip()) for each in said.splitlines())
