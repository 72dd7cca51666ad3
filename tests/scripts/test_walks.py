"""The walks are counted by one rule, on whatever files there are; how many there ought to be, is no test's business."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.walking.__main__ import counts, table, with_files
from scripts.walking.tracer import Line, Tracer, first_passage, in_all
from scripts.walking.walks import Walk

CHECKOUT = Path(__file__).parents[2]
PROJECT = {
    "agent/__init__.py": "",
    "agent/__main__.py": "import agent.walk\nagent.walk.start(4507, input)\n",
    "agent/options.py": """
from dataclasses import dataclass

@dataclass
class Options:
    depth: int

    class Inner:
        pass
""",
    "agent/importing.py": """
def at_import():
    return 1

ONE = at_import()
""",
    "agent/walk.py": """
from agent.options import Options

def start(depth, ask):
    ask()
    import agent.importing
    options = Options(depth)
    passed(options)
    idle()

def passed(options):
    from agent import use
    use.text(f'depth = {options.depth}, not 45070')

def idle():
    import agent.idle
    agent.idle.nothing(45070)
""",
    "agent/use.py": "def text(what):\n    print(what)\n",
    "agent/idle.py": "def nothing(what):\n    return None\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout of a small program that waits for a line on its standard input before it walks."""
    for name, text in PROJECT.items():
        path = tmp_path / "checkout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "checkout"


def run(project: Path, tracer: Tracer) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "agent"]
    return subprocess.Popen(
        command, cwd=project, env=tracer.environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def test_a_window_holds_the_files_whose_functions_ran_in_the_order_of_first_passage(project: Path):
    tracer = Tracer(project.parent / "trace", project, {})
    with run(project, tracer) as process, tracer.window() as window:
        process.communicate("\n")
        # ``walk.py`` was entered before its function waited for the line; what it calls afterwards ran in the window.
    assert set(tracer.files(window)) - {"walk.py"} == {"options.py", "use.py", "idle.py"}
    assert [file for file in tracer.files(window) if file != "walk.py"] == ["options.py", "use.py", "idle.py"]


def test_what_runs_outside_of_a_window_or_while_a_module_is_imported_does_not_count(project: Path):
    tracer = Tracer(project.parent / "trace", project, {})
    with run(project, tracer) as process:
        process.communicate("\n")
    with tracer.window() as window:
        pass
    assert tracer.files(window) == []


def test_a_value_is_followed_through_fields_and_texts_to_the_files_that_hold_it_and_define_its_fields(project: Path):
    tracer = Tracer(project.parent / "trace", project, {"depth": 4507, "other": 3})
    tracer.follow()
    with run(project, tracer) as process:
        process.communicate("\n")
    tracer.close()
    assert tracer.holders("depth") == ["walk.py", "options.py", "use.py"]
    assert tracer.holders("other") == []


def test_first_passage_orders_the_files_of_all_processes_by_time():
    lines = [Line(1, 30, "c.py", "f"), Line(1, 10, "b.py", "f"), Line(1, 20, "a.py", "f"), Line(1, 40, "b.py", "g")]
    assert first_passage(lines) == ["b.py", "a.py", "c.py"]


def test_a_file_that_only_some_passages_went_through_does_not_count():
    assert in_all([["a", "timer", "b", "c"], ["b", "a", "c"], ["c", "a", "b", "other"]]) == ["c", "a", "b"]


def test_the_table_shows_each_walk_beside_an_earlier_one():
    walks = {"frame": Walk(["a.py", "b.py"]), "key": Walk(["c.py"], {"depth": ["c.py"], "width": []})}
    assert counts(walks) == {"frame": 2, "key": 1}
    assert with_files(walks)["key"] == {"count": 1, "files": ["c.py"], "taken_from": {"depth": ["c.py"], "width": []}}
    shown = table(walks, {"frame": 4}).splitlines()
    assert shown[0] == "frame     2   before 4, -50 %"
    assert shown[1:3] == ["       1  a.py", "       2  b.py"]
    assert shown[3] == "key       1"


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "scripts.walking", "--root", str(tmp_path)],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is no checkout: it has no agent/__main__.py" in done.stderr


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")
def test_the_walks_are_traced_in_a_running_agent_and_printed_as_one_json_object():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.walking", "--json", "--repeat", "1"],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed.keys() == {"frame", "job", "result", "key"}
    assert all(count > 0 for count in printed.values())
