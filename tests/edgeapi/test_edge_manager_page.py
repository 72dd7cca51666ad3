"""The page for those who come from SageMaker Edge Manager: its sessions run as they are shown, its tables are whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import agent
from agent.config.edgeapi import CaptureOptions, EdgeManagerOptions
from agent.edgeapi.edge_manager.settings import JSON_KEYS
from agent.inference.manifest import SAMPLES
from tests.support.pages import session

ROOT = Path(agent.__file__).parents[1]
PAGE = (ROOT / "docs" / "edge-manager.md").read_text()
SHOWN = [block.splitlines() for block in re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)]


def rows(head: str) -> set[str]:
    """The keys in the first column of the table with this head."""
    table = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0]
    return set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:])))


def test_the_tables_list_every_key() -> None:
    assert rows("key of `[edge_manager]`") == set(EdgeManagerOptions.__struct_fields__)
    assert rows("key of `[edge_manager.capture]`") == set(CaptureOptions.__struct_fields__)
    assert rows("key") == set(JSON_KEYS)


def test_the_sessions_on_the_page_run_as_they_are_shown(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools: pip install 'verge-edge[dev]'")
    assert session(PAGE, tmp_path) == 1
    shutil.copy(Path(agent.__file__).parent / "edgeapi" / "protos" / "edge_manager.proto", tmp_path)
    (made,) = re.findall(r"`python (-m grpc_tools\S* .*?)`", PAGE)
    subprocess.run([sys.executable, *made.split()], cwd=tmp_path, check=True)
    served, called = SHOWN
    socket = str(tmp_path / "edge_agent")
    command = [word.replace("/tmp/edge_agent", socket) for word in served[0].removeprefix("$ verge ").split()]
    with subprocess.Popen(
        [sys.executable, "-m", "agent", *command], cwd=tmp_path, stdout=subprocess.PIPE, env={"PYTHONPATH": str(ROOT)}
    ) as child:
        try:
            assert child.stdout.readline().decode() == served[1].replace("/tmp/edge_agent", socket) + "\n"
            client = called[0].removeprefix("$ python ").replace("/tmp/edge_agent", socket)
            client = client.replace("models/classifier", str(SAMPLES / "classifier"))
            said = subprocess.run(
                [sys.executable, *client.split()], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
            )
            assert said.stdout.splitlines() == called[1:]
        finally:
            child.terminate()
    assert len(list((tmp_path / "captures" / "line" / "north").rglob("first.jsonl"))) == 1
    assert (tmp_path / "data" / "edge-manager" / "registration.json").exists()
