"""The page on the architecture is true: its diagrams are the imports, its files exist, its recipes work."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import agent
from tests.core.test_architecture import LAYERS, SOURCES, arrows

ROOT = Path(agent.__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
BELOW_ALL = {"disk", "errors", "eventstream", "files", "text", "topics", "users", "logs", "service"}
"""Modules that any room may use, and the two that only commands do; no diagram draws them."""
PROGRAMS = {"verge": "agent", "pytest": "pytest -p no:cacheprovider"}


class Block(NamedTuple):
    """A fenced block: its language, what its info string says, its text."""

    language: str
    about: dict[str, str]
    text: str


def blocks(text: str) -> list[Block]:
    fenced = re.findall(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [
        Block(language, dict(word.split("=", 1) for word in shlex.split(info)), body) for language, info, body in fenced
    ]


def sections(heading: str) -> dict[str, str]:
    """The sections below a heading of the second level, by the names of the third."""
    chapter = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert chapter is not None
    return dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", chapter[1], re.DOTALL | re.MULTILINE))


def drawn(diagram: str) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """A diagram's nodes (identifier → room) and its arrows between rooms."""
    nodes = {identifier: label.replace("/", ".") for identifier, label in re.findall(r'(\w+)\["([\w/]+)"\]', diagram)}
    bare = re.sub(r'\["[^"]*"\]', "", diagram)
    edges = {(nodes[one], nodes[other]) for one, other in re.findall(r"^\s*(\w+) --> (\w+)$", bare, re.MULTILINE)}
    return nodes, edges


def within(place: str, rooms: set[str]) -> str | None:
    """The room of a diagram that a room of the code belongs to."""
    parts = place.split(".")
    return next((one for size in range(len(parts), 0, -1) if (one := ".".join(parts[:size])) in rooms), None)


def reached(edges: set[tuple[str, str]], start: str) -> set[str]:
    ahead: set[str] = set()
    while more := {other for one, other in edges if one in {start, *ahead}} - ahead:
        ahead |= more
    return ahead


DIAGRAMS = [block.text for block in blocks(PAGE) if block.language == "mermaid"]


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=range(len(DIAGRAMS)))
def test_a_diagram_draws_the_arrows_that_the_imports_make(diagram) -> None:
    nodes, edges = drawn(diagram)
    rooms = set(nodes.values())
    real = {
        (here, there)
        for path in SOURCES
        for pair in arrows(path)
        for here, there in [(within(pair[0], rooms), within(pair[1], rooms))]
        if here and there and here != there
    }
    assert edges - real == set()
    assert {(here, there) for here, there in real if there not in reached(edges, here)} == set()


def test_every_room_is_drawn() -> None:
    rooms = {room for diagram in DIAGRAMS for room in drawn(diagram)[0].values()}
    assert {room for room in LAYERS if within(room, rooms) is None} == BELOW_ALL


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`((?:agent|tests|scripts|configs)/[\w/.-]+)`", PAGE))
    new = {block.about["file"] for block in blocks(PAGE) if block.about.keys() == {"file"}}
    assert {one for one in named - new if not (ROOT / one).exists()} == set()
    walked = set(re.findall(r"^\| `(?!agent/)([\w/]+\.py)` \|", PAGE, re.MULTILINE))
    assert {one for one in walked if not (ROOT / "agent" / one).is_file()} == set()


def test_a_reader_sees_where_each_block_belongs() -> None:
    silent = re.findall(r"(?<!:\n\n)^```python file=(\S+)", PAGE, re.MULTILINE)
    assert silent == []


@pytest.mark.parametrize("name", sections("How to add"))
def test_a_recipe_for_what_comes_works_as_it_is_written(name, tmp_path) -> None:
    recipe = blocks(sections("How to add")[name])
    for folder in ("agent", "configs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for block in recipe:
        if "file" in block.about:
            write(tmp_path / block.about["file"], block)
    consoles = [block.text for block in recipe if block.language == "console"]
    assert consoles
    for text in consoles:
        for command, expected in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE):
            printed = run(command, tmp_path)
            for line in expected.splitlines():
                pattern = ".*".join(map(re.escape, line.split("…")))
                assert re.search(rf"^\s*{pattern}\s*$", printed, re.MULTILINE), (line, printed)


def write(path: Path, block: Block) -> None:
    """A new file, or lines before, behind or instead of the one that begins as the block says."""
    where = next((word for word in ("before", "after", "instead") if word in block.about), None)
    if where is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        return
    lines = path.read_text().splitlines(keepends=True)
    start = block.about[where]
    place = next(number for number, line in enumerate(lines) if line.strip().startswith(start))
    lines[place + (where == "after") : place + (where != "before")] = [block.text]
    path.write_text("".join(lines))


def run(command: str, folder: Path) -> str:
    """What a command prints, run in the copy with the copy's package."""
    python = shlex.quote(sys.executable)
    shell = re.sub(r"^(verge|pytest)\b", lambda word: f"{python} -m {PROGRAMS[word[1]]}", command)
    home = {"PYTHONPATH": str(folder), "XDG_STATE_HOME": str(folder / "state")}
    made = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", shell], cwd=folder, env=os.environ | home, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout
