"""One device, one agent, three environments that cannot be one: their models answer side by side.

TFLite's old runtime ends at NumPy 1, its new one begins at NumPy 2, and DLR has a wheel of its own.  All are built on
the device from a folder of wheels; the network is not asked.
"""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import tvm
from tests.support.agent import Agent
from tests.support.device import Owner, device
from tests.support.fleet import Fleet

WHEELS = Path(__file__).parents[2] / ".venv" / "wheelhouse"
NEEDED = (
    "tflite_runtime-2.14.0-*", "numpy-1.26.4-*", "opencv_python_headless-4.*", "ai_edge_litert-2*", "numpy-2*",
    "opencv_python_headless-5*", "dlr-1.6.0-*",
)  # fmt: skip
PICTURES = (("chelsea.jpg", "cat"), ("coffee.jpg", "espresso|coffee cup"))
PACE_S = 0.4

TFLITE, LITERT, DLR = "variant.TensorFlowLite", "verge.runtime.litert", "variant.DLR"
NETWORK, COMPILED = "variant.TensorFlowLite.ImageClassification.ModelStore", "com.acme.Compiled"
OLD, NEW, NEO = "com.acme.OnOldLite", "com.acme.OnNewLite", "com.acme.OnDlr"
STREAMS = {OLD: (NETWORK, TFLITE), NEW: (NETWORK, LITERT), NEO: (COMPILED, DLR)}
RUNTIMES = {TFLITE: "2.5.8", LITERT: "1.0.0", DLR: "1.6.9"}
PINNED = ("tflite-runtime==2.14.0", "numpy==1.26.4")


class Camera(threading.Thread):
    """Shows one picture after the other until it is told to stop."""

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.sent = 0
        self._agent = agent
        self._enough = threading.Event()
        self._pictures = [(tvm.IMAGES / name).read_bytes() for name, _ in PICTURES]

    def run(self) -> None:
        while not self._enough.wait(PACE_S):
            self._agent.frame("door", self._pictures[self.sent % len(self._pictures)])
            self.sent += 1

    def stop(self) -> None:
        self._enough.set()
        self.join()


@contextmanager
def filming(agent: Agent) -> Iterator[Camera]:
    camera = Camera(agent)
    camera.start()
    try:
        yield camera
    finally:
        camera.stop()


def document(fleet: Fleet, identity: str, packages: tuple[str, ...], thing: str) -> dict[str, Any]:
    """Three streams over the same camera; ``packages`` is what the first one's runtime is pinned to."""
    house: dict[str, Any] = {"Wheelhouse": str(WHEELS), "Index": False}
    blocks = {TFLITE: house | {"Packages": packages}, LITERT: house, DLR: house}
    recipes = [stream(fleet, name, model, runtime, thing) for name, (model, runtime) in STREAMS.items()]
    folder = tvm.classifier(fleet.folder / "classifier").folder
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    recipes.append(fleet.packed(COMPILED, "1.0.0", files))
    components: dict[str, Any] = {name: {"version": "1.0.0"} for name in STREAMS}
    for name, version in RUNTIMES.items():
        components[name] = {"version": version, "configurationUpdate": {"merge": {"Verge": blocks[name]}}}
    return {"deploymentId": identity, "components": components, "recipes": recipes}


def stream(fleet: Fleet, name: str, model: str, runtime: str, thing: str) -> dict[str, Any]:
    recipe = fleet.stream(name, model, f"{thing}/cameras/+/frame", Depth=4000, Run={"deadline_s": 20})
    recipe["ComponentDependencies"][runtime] = {"VersionRequirement": "*"}
    return recipe


def send(owner: Owner, told: dict[str, Any]) -> None:
    path = owner.agent.folder / f"{told['deploymentId']}.json"
    path.write_text(json.dumps(told))
    owner.verge_deploy(path.name, "--timeout", 200)


def environments(agent: Agent) -> set[Path]:
    """The environments on the device."""
    places = (agent.folder / "data" / "work").glob("*/*/*/bin/python")
    return {folder for folder in (path.parent.parent for path in places) if not folder.is_symlink()}


def interpreters(agent: Agent) -> dict[Path, int]:
    """The environment in which each worker runs, by its command line and by the libraries it has mapped."""
    found = {}
    for pid in agent.workers():
        folder = Path(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()).parent.parent
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert f"{folder}/lib" in mapped
        assert not any(f"{other}/lib" in mapped for other in environments(agent) - {folder})
        found[folder] = pid
    return found


def numpy_of(folder: Path) -> str:
    command = [str(folder / "bin" / "python"), "-c", "import numpy; print(numpy.__version__)"]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout.strip()


def answers(agent: Agent, name: str, sent: int) -> list[dict[str, Any]]:
    """Every result of a stream; no frame is missing, and each says what its picture shows."""
    report = agent.settled(sent, name, timeout_s=60)
    assert (report["received"], report["answered"], report["dropped"], report["failed"]) == (sent, sent, {}, {})
    agent.result(lambda told: told["frame"]["sequence"] == sent, name)
    found = sorted(agent.results(name), key=lambda told: told["frame"]["sequence"])
    assert [told["frame"]["sequence"] for told in found] == list(range(1, sent + 1))
    for number, told in enumerate(found):
        shown = PICTURES[number % len(PICTURES)][1].split("|")
        assert any(word in told["predictions"][0]["label"] for word in shown), told
    return found


def backends(results: list[dict[str, Any]]) -> list[str]:
    """What answered, one after the other."""
    told = [result["model"]["backend"] for result in results]
    return [name for number, name in enumerate(told) if number == 0 or told[number - 1] != name]


def test_three_environments_serve_at_once_and_one_is_swapped_without_the_others_losing_a_frame(broker, tmp_path):
    tvm.require()
    if lacking := [pattern for pattern in NEEDED if not list(WHEELS.glob(pattern))]:
        pytest.skip(
            f"no {', '.join(lacking)} in .venv/wheelhouse: 'scripts/setup dev' downloads it, where there is one"
        )
    thing, fleet = f"three-{uuid.uuid4().hex[:8]}", Fleet(tmp_path / "fleet")
    with device(thing, broker.port, tmp_path) as agent:
        owner = Owner(agent, broker.port)
        send(owner, document(fleet, "first", PINNED, thing))
        told = {name: owner.status(name, lambda told: told["state"] == "FINISHED")["reason"] for name in RUNTIMES}
        before = interpreters(agent)
        assert before.keys() == environments(agent)
        versions = sorted(map(numpy_of, before))
        assert versions[0] == "1.26.4"
        assert [version.partition(".")[0] for version in versions] == ["1", "2", "2"]
        assert "tflite-runtime 2.14.0" in told[TFLITE]
        assert "numpy 1.26.4" in told[TFLITE]
        assert "ai-edge-litert 2." in told[LITERT]
        assert "dlr 1.6.0" in told[DLR]

        with filming(agent) as camera:
            for name in STREAMS:
                agent.result(lambda told: told["frame"]["sequence"] == 4, name)
            send(owner, document(fleet, "second", ("ai-edge-litert", "numpy>=2"), thing))
            more = camera.sent + 4
            for name in STREAMS:
                agent.result(lambda told: told["frame"]["sequence"] == more, name)
        after = interpreters(agent)
        newest = owner.status(TFLITE, lambda told: "ai-edge-litert" in told["reason"])["reason"]
        assert "numpy 2." in newest
        served = {name: backends(answers(agent, name, camera.sent)) for name in STREAMS}
        litert = served[NEW][0]
        assert served == {OLD: ["litert 2.14.0", litert], NEW: [litert], NEO: ["dlr 1.6.0"]}
        assert litert.startswith("litert 2.")
        assert litert != "litert 2.14.0"
        # The others' workers are the same ones.
        stayed = before.items() & after.items()
        assert {folder.parent.parent.name for folder, _ in stayed} == {LITERT, DLR}
        assert len(after) == 3

    # A new start finds what was built.  A set before the active one can be gone back to: its environments stay so long.
    with device(thing, broker.port, tmp_path) as agent:
        assert interpreters(agent).keys() == after.keys()
        assert environments(agent) == before.keys() | after.keys()
        send(Owner(agent, broker.port), {"deploymentId": "none", "components": {}})
        assert agent.workers() == []
        assert environments(agent) == after.keys()
    with device(thing, broker.port, tmp_path) as agent:
        send(Owner(agent, broker.port), {"deploymentId": "none-again", "components": {}})
        assert environments(agent) == set()


def test_a_runtime_that_cannot_be_had_changes_nothing_and_the_owner_is_told_what_was_tried(broker, tmp_path):
    (tmp_path / "empty").mkdir()
    with device(f"bare-{uuid.uuid4().hex[:8]}", broker.port, tmp_path) as agent:
        update = {"Verge": {"Wheelhouse": str(tmp_path / "empty"), "Index": False}}
        options = ("--component", f"{LITERT}=1.0.0", "--config", json.dumps(update))
        done = Owner(agent, broker.port).verge_deploy(*options, status=1)
        told = done.stdout + done.stderr
        assert "FAILED_NO_STATE_CHANGE" in told
        for combination in ("ai-edge-litert 2 + numpy 2", "tflite-runtime 2.14 + numpy 1.26"):
            assert f"{combination} from the wheelhouse: " in told
        assert "there is no wheel of tflite-runtime" in told
        assert environments(agent) == set()
        assert agent.peer.all(agent.topic(f"components/{LITERT}")) == []
