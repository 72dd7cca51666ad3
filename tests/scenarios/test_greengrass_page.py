"""The page for those who come from Greengrass: its session runs as it is shown, its table is the catalog's."""

from __future__ import annotations

import getpass
import re
import subprocess
import sys
from pathlib import Path

import agent
from agent.config.ipc import IpcOptions
from agent.greengrass.catalog.amazon import COMPONENTS
from tests.support.pages import session
from tests.support.peer import peer
from tests.support.until import PATIENCE_S, until_sync

ROOT = Path(agent.__file__).parents[1]
PAGE = (ROOT / "docs" / "greengrass.md").read_text()


def test_the_table_of_amazons_components_is_the_catalogs():
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    shown = {name: (standing, text) for name, standing, text in rows}
    ours = {
        name: (one.standing.value, "; ".join(filter(None, (one.why, one.instead)))) for name, one in COMPONENTS.items()
    }
    assert shown == ours


def test_the_page_lists_every_key_of_the_table():
    section = PAGE.partition("## The keys of `[ipc]`")[2].partition("\n## ")[0]
    listed = re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in section.splitlines() if line.count("|") > 3))
    assert set(listed) == set(IpcOptions.__struct_fields__)


def test_the_session_on_the_page_runs_as_it_is_shown(broker, tmp_path):
    for folder in ("recipes", "artifacts/com.example.Greeter/1.0.0"):
        (tmp_path / folder).mkdir(parents=True)
    text = PAGE.replace("port = 1883", f"port = {broker.port}").replace("press-7", "greeter-page")
    text = text.replace("exec python3", f"exec {sys.executable}").replace(
        'run_as = "root"', f'run_as = "{getpass.getuser()}"'
    )
    before, after = text.split("```console", 1)
    session(before, tmp_path)
    with peer(broker.port) as listener, (tmp_path / "agent.log").open("wb") as log:
        listener.subscribe("greetings/#")
        listener.subscribe("verge/greeter-page/#")
        command = [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "verge.toml")]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env={"PYTHONPATH": str(ROOT)})
        try:
            listener.wait("verge/greeter-page/status", lambda told: told.get("pid") == process.pid, PATIENCE_S)
            assert session("```console" + after, tmp_path) == 4
            until_sync(lambda: _greetings(listener)[-1:] == [b"Good morning, world"])
            assert _greetings(listener) == [b"Hello, world", b"Good morning, world"]
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            print((tmp_path / "agent.log").read_text())


def _greetings(listener):
    return [message.payload for message in listener.heard if message.topic.startswith("greetings/")]
