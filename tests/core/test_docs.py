"""What a person reads is true: commands run, examples hold, configurations load."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import jsonschema
import pytest

import agent
from agent.cli import COMMANDS, verge
from agent.config.load import load
from agent.inference.manifest import resolve
from agent.results.schemas import schema

ROOT = Path(agent.__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = ("scripts/",)
"""Set-up scripts are run by their own tests and by whoever reads them first."""
NATIVE = {"agent.demo.camera"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands() -> list[str]:
    lines = [
        line.partition(" #")[0].strip() for page in PAGES for block in blocks(page, "sh") for line in block.split("\n")
    ]
    return sorted({line for line in lines if line and not line.startswith(SLOW)})


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_documentation_runs(command, tmp_path) -> None:
    words = shlex.split(command)
    assert words[0] == ".venv/bin/verge"
    said = subprocess.run(
        [sys.executable, "-m", "agent", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout


def test_the_readme_opens_with_the_two_commands() -> None:
    first = blocks(ROOT / "README.md", "sh")[0]
    assert [line.split()[0] for line in first.strip().split("\n")] == ["scripts/demo", "scripts/test"]
    for line in first.strip().split("\n"):
        assert (ROOT / line.split()[0]).stat().st_mode & 0o100


def test_the_readmes_result_keeps_to_the_schema() -> None:
    for example in blocks(ROOT / "README.md", "json"):
        jsonschema.validate(json.loads(example), json.loads(schema("native")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_project_leads_somewhere(page) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_configuration_that_ships_loads_and_its_models_are_there(path) -> None:
    config = load(path, {})
    assert config.streams
    assert all(resolve(options, config.folder).manifest.file for options in config.models.values())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_what_a_configuration_mentions_in_comments_is_understood_too(path, tmp_path) -> None:
    (tmp_path / "mqtt-password").write_text("x")
    (tmp_path / "mqtt-password").chmod(0o600)
    spoken = re.sub(r"^# (?=[a-z_]+ = )", "", path.read_text(), flags=re.MULTILINE)
    assert tomllib.loads(spoken)
    (tmp_path / "verge.toml").write_text(spoken)
    load(tmp_path / "verge.toml", {})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name) -> None:
    context = click.Context(verge, info_name="verge")
    command = verge.get_command(context, name)
    assert command is not None
    text = command.get_help(click.Context(command, info_name=name, parent=context))
    assert "Example" in text
    assert f"verge {name}" in text


def test_the_examples_in_docstrings_hold() -> None:
    failed = tried = 0
    for info in pkgutil.walk_packages([str(Path(agent.__file__).parent)], "agent."):
        if info.name.endswith("__main__") or info.name in NATIVE:
            continue
        found = doctest.testmod(importlib.import_module(info.name))
        failed, tried = failed + found.failed, tried + found.attempted
    assert failed == 0
    assert tried > 10


def test_the_changelog_names_the_version_or_what_is_to_come() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "[Unreleased]" in text or f"[{agent.__version__}]" in text
