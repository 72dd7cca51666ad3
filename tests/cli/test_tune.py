"""``verge tune``: the fastest way to run a model, told in a table and kept for the agent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support import unruly
from tests.support.models import onnx_colours

CONFIG = """
data_dir = "data"
[transports.local]
host = "localhost"
[models.mine]
source = "mine.onnx"
backend = "opencv"
threads = 1
[streams.s]
model = "mine"
[streams.s.input]
topic = "frames"
"""


@pytest.fixture
def state(tmp_path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "state" / "verge").glob("*/tuning/*.json"))


def test_a_table_tells_what_was_measured_and_what_is_chosen(verge, tmp_path, state) -> None:
    onnx_colours(tmp_path / "mine.onnx")
    done = verge("tune", "mine.onnx", COLUMNS="80", **state)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    rows = [line for line in lines if " thread" in line and "4/4" in line]
    assert {row.split()[0] for row in rows} == {"onnx", "opencv"}
    assert sum(row.endswith("chosen") for row in rows) == 1
    medians = [float(re.findall(r"\d+\.\d+", row)[0]) for row in rows]
    assert medians == sorted(medians)
    assert max(len(line) for line in lines if not line.startswith("kept in")) <= 80
    assert any(line.startswith("chosen: ") for line in lines)
    (path,) = kept(tmp_path)
    assert f"kept in {path}" in done.stdout


def test_json_has_all_figures_and_forgetting_removes_them(verge, tmp_path, state) -> None:
    onnx_colours(tmp_path / "mine.onnx")
    told = json.loads(verge("tune", "mine.onnx", "--json", "--budget", "30", **state).stdout)
    best = told["measured"][0]
    assert told["chosen"] == best["combination"]
    assert best["rounds"] > 0
    assert best["median_ms"] > 0
    assert told["digest"].startswith("sha256:")
    assert told["kept"] == str(kept(tmp_path)[0])
    forgotten = verge("tune", "mine.onnx", "--forget", **state)
    assert forgotten.stdout.startswith("mine: forgotten")
    assert kept(tmp_path) == []
    assert json.loads(verge("tune", "mine.onnx", "--forget", "--json", **state).stdout)["forgotten"] == 0


def test_a_model_of_a_configuration_is_tuned_as_it_says_and_kept_in_its_data(verge, tmp_path, state) -> None:
    onnx_colours(tmp_path / "mine.onnx")
    (tmp_path / "verge.toml").write_text(CONFIG)
    told = json.loads(verge("tune", "mine", "-c", "verge.toml", "--json", **state).stdout)
    assert [each["combination"] for each in told["measured"]] == [
        {"backend": "opencv", "accelerator": "cpu", "threads": 1}
    ]
    assert Path(told["kept"]).parent == tmp_path / "data" / "tuning"
    assert kept(tmp_path) == []


def test_what_nothing_runs_is_told_with_the_reason(verge, tmp_path, state) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 100)
    done = verge("tune", "broken.onnx", **state)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "nothing is chosen" in said
    assert "out: onnx on cpu, 1 thread: " in said
    assert "cannot be loaded" in said


def test_a_model_that_is_not_there_is_refused(verge, state) -> None:
    done = verge("tune", "clasifier", **state)
    assert done.returncode == 2
    assert "did you mean classifier?" in done.stderr


def test_a_folder_that_cannot_be_written_is_told_after_the_figures(verge, tmp_path, state) -> None:
    onnx_colours(tmp_path / "mine.onnx")
    (tmp_path / "state").write_text("a file is in the way")
    done = verge("tune", "mine.onnx", **state)
    assert done.returncode == 2
    assert "chosen: " in done.stdout
    assert "cannot be written" in done.stderr
    assert "the agent's user" in done.stderr


def test_golden_pictures_beside_the_model_are_used(verge, tmp_path, state) -> None:
    onnx_colours(tmp_path / "mine.onnx")
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "grey.jpg").write_bytes(unruly.jpeg("answer"))
    told = json.loads(verge("tune", "mine.onnx", "--json", **state).stdout)
    assert told["pictures"] == ["grey.jpg"]
