"""The page for those who come from Lookout for Vision: its session and its program run as they are shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import cv2

import agent
from agent.config.edgeapi import LookoutOptions
from agent.config.load import parse
from agent.config.models import ANOMALY_KEYS
from tests.support import inspection, models
from tests.support.lookout import GENERATIONS, generated
from tests.support.pages import session
from tests.support.peer import peer
from tests.support.until import PATIENCE_S

ROOT = Path(agent.__file__).parents[1]
PAGE = (ROOT / "docs" / "lookout.md").read_text()
SOCKET = "/tmp/aws.iot.lookoutvision.EdgeAgent.sock"


def test_the_page_lists_every_key_of_its_tables() -> None:
    first = {line.split("|")[1].strip(" `") for line in PAGE.splitlines() if line.startswith("| `")}
    assert set(LookoutOptions.__struct_fields__) | set(ANOMALY_KEYS) | {"threshold", "pixel_threshold"} <= first


def test_the_configuration_without_deployments_is_one() -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    config = parse(tomllib.loads(f"[transports.local]\nport = 1883\n{block}"), "the page", ROOT, {})
    assert config.lookout is not None
    assert config.lookout.socket.endswith(SOCKET)


def test_the_session_on_the_page_runs_as_it_is_shown(broker, tmp_path: Path) -> None:
    export = tmp_path / "results" / "weights" / "onnx"
    export.mkdir(parents=True)
    models.onnx_inspector(export / "model.onnx")
    socket = tmp_path / "lookout.sock"
    text = PAGE.replace("port = 1883", f"port = {broker.port}").replace("press-7", "lookout-page")
    text = text.replace(f"unix://{SOCKET}", f"unix://{socket}")
    (deploying,) = re.findall(r"^\$ (verge deploy .*)$", text, re.MULTILINE)
    elsewhere = f'{{"aws.iot.lookoutvision.EdgeAgent": {{"MERGE": {{"Socket": "unix://{socket}"}}}}}}'
    text = text.replace(deploying, f"{deploying} --config '{elsewhere}'")
    before, after = text.split("With the agent running", 1)
    assert session(before, tmp_path) == 2
    with peer(broker.port) as listener, (tmp_path / "agent.log").open("wb") as log:
        listener.subscribe("verge/lookout-page/#")
        command = [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "verge.toml")]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, env={"PYTHONPATH": str(ROOT)})
        try:
            listener.wait("verge/lookout-page/status", lambda told: told.get("pid") == process.pid, PATIENCE_S)
            assert session(after, tmp_path) == 2
            assert program_says(tmp_path / "program") == shown()
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
            print((tmp_path / "agent.log").read_text())
    assert not socket.exists()


def program_says(folder: Path) -> list[str]:
    """What the page's program prints of a part with a bright quarter and one without."""
    generated(folder, GENERATIONS["the last"])
    cv2.imwrite(str(folder / "scratched.png"), inspection.spotted(256, 256))
    cv2.imwrite(str(folder / "whole.png"), inspection.dark(256, 256))
    said = subprocess.run(
        [sys.executable, "inspect_part.py", "scratched.png", "whole.png"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout.splitlines()


def shown() -> list[str]:
    (block,) = re.findall(r"^```text\n\$ python inspect_part.py.*?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return block.splitlines()
