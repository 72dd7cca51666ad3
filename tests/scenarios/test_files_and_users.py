"""What an agent leaves on the disk, whose it is, and who may change what it runs."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import agent
from tests.support import agent as agents
from tests.support import unruly
from tests.support.fleet import SHELL, Fleet, deploy, document, recipe
from tests.support.until import until_sync

SAMPLE = Path(agent.__file__).parent / "samples" / "images" / "chelsea.jpg"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose components are other users")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, as /var/lib is."""
    with tempfile.TemporaryDirectory(prefix="verge-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def config(broker, thing, open_folder) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, open_folder, {})
    deployments = {"jobs": False, "shadow": False, "run_as": "nobody"}
    return config | {"models": {}, "streams": {}, "deployments": deployments}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def with_file(name: str, version: str, file: Path, lifecycle: dict[str, Any]) -> dict[str, Any]:
    """A generic component with one artifact."""
    digest = base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()
    artifact = {"Uri": f"file://{file}", "Digest": digest, "Algorithm": "SHA-256"}
    if file.suffix == ".zip":
        artifact["Unarchive"] = "ZIP"
    return recipe(name, version, SHELL, Manifests=[{"Artifacts": [artifact], "Lifecycle": lifecycle}])


MODES = [
    # Who may use greengrass-cli reads the file of its group; who connects to the socket shows a token.
    (r"cli_ipc_info(/.*)?", 0o711, 0o600),
    (r"ipc\.socket", 0, 0o666),
    (r"\.", 0o711, None),
    (r"packages(/artifacts(-unarchived)?)?", 0o711, None),
    (r"packages/artifacts(-unarchived)?/.*", 0o755, 0o440),
    (r"work", 0o711, None),
    (r"work/com\.scripts", 0o700, None),
    (r".*", 0o700, 0o600),
]
"""The first that fits a path below the data folder: the mode of a folder, and of a file."""


def _unexpected(data: Path) -> list[str]:
    found = []
    for path in (data, *sorted(data.rglob("*"))):
        name = str(path.relative_to(data))
        if name.startswith("work/com.scripts/"):
            continue  # the component's own
        try:
            facts = path.lstat()
        except FileNotFoundError:
            continue  # a temporary that was renamed
        folder, file = next((folder, file) for rule, folder, file in MODES if re.fullmatch(rule, name))
        wanted = folder if stat.S_ISDIR(facts.st_mode) else file
        if stat.S_IMODE(facts.st_mode) != wanted:
            found.append(f"{stat.S_IMODE(facts.st_mode):o} {name}")
    return found


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_everything_in_the_data_folder_is_the_agents_alone_but_what_components_must_read(
    config, fleet, thing, open_folder, mask
):
    config["transports"]["local"]["outbox"] = {}
    told = document(
        "first",
        [
            fleet.model("com.model", golden={"label": "fine"}),
            fleet.stream("com.cameras", "com.model", f"{thing}/cameras/+/frame"),
            fleet.scripts("com.scripts", Run="echo said; echo said > said; sleep 600"),
        ],
        {"com.cameras": "1.0.0", "com.scripts": "1.0.0"},
    )
    data = open_folder / "data"
    with umask(mask), agents.running(config, open_folder) as agent:
        assert deploy(agent, told)["status"] == "SUCCEEDED"
        agent.frame("door", unruly.jpeg("answer"))
        agent.result(stream="com.cameras")
        agent.frame("door", unruly.jpeg("crash"))
        until_sync(lambda: any((data / "quarantine").glob("*.jpg")), why=lambda: agent.log)
        places = {path.relative_to(data).parts[0] for path in data.rglob("*") if path.is_file()}
        assert {"packages", "deployments", "quarantine", "logs", "run"} <= places
        assert any(path.name.endswith("-wal") for path in data.rglob("*"))
        assert _unexpected(data) == []


def test_a_plain_component_cannot_change_what_root_runs_for_another(config, fleet, open_folder):
    data, proof = open_folder / "data", open_folder / "proof"
    script = fleet.folder / "run.sh"
    script.write_text(f"id -u >> {proof}\n")
    run = {"Script": "sh {artifacts:path}/run.sh; sleep 600", "RequiresPrivilege": True}
    target = data / "packages" / "artifacts" / "com.root" / "1.0.0" / "run.sh"
    attack = (
        f"chmod u+w {target}; echo 'echo stolen >> {proof}' > {target}; rm -f {target}; echo tried > tried; sleep 600"
    )
    told = document(
        "first",
        [with_file("com.root", "1.0.0", script, {"Run": run}), fleet.scripts("com.plain", Run=attack)],
        {"com.root": "1.0.0", "com.plain": "1.0.0"},
    )
    with agents.running(config, open_folder) as agent:
        assert deploy(agent, told)["status"] == "SUCCEEDED"
        until_sync((data / "work" / "com.plain" / "tried").exists, why=lambda: agent.log)
        assert target.read_text() == script.read_text()
        assert target.stat().st_uid == 0
    with agents.running(config, open_folder) as agent:
        until_sync(lambda: proof.read_text().count("\n") >= 2, why=lambda: agent.log)
    assert set(proof.read_text().split()) == {"0"}


@pytest.mark.parametrize("held", [True, False])
def test_files_that_were_changed_are_not_run_and_are_put_back(config, fleet, open_folder, tmp_path, held):
    data, proof = open_folder / "data", open_folder / "proof"
    archive = Path(
        fleet.packed("com.code", "1.0.0", {"run.sh": f"echo right >> {proof}\n".encode()})["Manifests"][0]["Artifacts"][
            0
        ]["Uri"].removeprefix("file://")
    )
    script = "sh {artifacts:decompressedPath}/com.code-1.0.0/run.sh; sleep 600"
    proof.touch()
    proof.chmod(0o666)
    told = document("first", [with_file("com.code", "1.0.0", archive, {"Run": script})], {"com.code": "1.0.0"})
    with agents.running(config, open_folder) as agent:
        assert deploy(agent, told)["status"] == "SUCCEEDED"
    (run,) = data.glob("packages/artifacts-unarchived/com.code/1.0.0/*/run.sh")
    run.chmod(0o600)
    run.write_text(f"echo wrong >> {proof}\n")
    os.chown(run, 65534, 65534)
    if not held:
        for entry in data.glob("packages/cache/sha256/*/*"):
            entry.unlink()
        data.joinpath("packages/artifacts/com.code/1.0.0/com.code-1.0.0.zip").unlink()
        archive.rename(tmp_path / "away")
    with agents.running(config, open_folder) as agent:
        if held:
            until_sync(lambda: proof.read_text().count("\n") >= 2, why=lambda: agent.log)
            assert "run.sh was changed" in agent.log
        else:
            state = agent.peer.wait(agent.topic("components/com.code"), lambda told: told.get("state") == "BROKEN", 60)
            assert "not started" in str(state)
    assert set(proof.read_text().split()) == {"right"}


def test_a_byte_that_flips_in_the_cache_reaches_no_component(config, fleet, open_folder):
    data, file = open_folder / "data", fleet.folder / "data.bin"
    file.write_bytes(b"whole" * 100)
    versions = [with_file("com.data", version, file, {"Run": "sleep 600"}) for version in ("1.0.0", "2.0.0", "3.0.0")]
    with agents.running(config, open_folder) as agent:
        for number, one in enumerate(versions):
            version = one["ComponentVersion"]
            assert deploy(agent, document(version, [one], {"com.data": version}))["status"] == "SUCCEEDED"
            placed = data / "packages" / "artifacts" / "com.data" / version / "data.bin"
            assert placed.read_bytes() == file.read_bytes()
            (entry,) = data.glob("packages/cache/sha256/*/*")
            assert not placed.samefile(entry)
            damaged = entry if number == 0 else placed
            damaged.chmod(0o600)
            damaged.write_bytes(b"broken")


OWN = """
import os
from own_neighbour import said

def mark(predictions):
    import sqlite3  # nothing has needed it so far
    memory = sqlite3.connect(":memory:")
    reached = os.access("/etc/shadow", os.R_OK)
    memory.close()
    return [{**predictions[0], "label": f"{said()} {os.getuid()} {os.getgid()} {reached}"}]
"""


def with_code(fleet: Fleet, version: str = "1.0.0") -> dict[str, Any]:
    """A model with a step of its own, which says who runs it."""
    manifest = 'file = "model.unruly"\nlabels = "labels.txt"\nbackend = "unruly:Unruly"\npostprocess = "own.py:mark"\n'
    files = {
        "model.unruly": b"",
        "labels.txt": b"calm\nfine\nodd\n",
        "manifest.toml": manifest.encode(),
        "own.py": OWN.encode(),
        "own_neighbour.py": b"def said():\n    return 'runs as'\n",
    }
    return fleet.packed("com.model", version, files)


def uids(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text()
    return {int(uid) for uid in re.search(r"^Uid:(.*)$", status, re.MULTILINE)[1].split()}


@pytest.mark.parametrize("way", [0o755, 0o700], ids=["open", "closed"])
@pytest.mark.parametrize(
    ("run_as", "stream_as", "uid"), [("nobody", None, 65534), ("", None, 65534), ("nobody", "daemon", 1)]
)
def test_a_models_own_code_runs_as_the_components_user_and_not_as_root(
    config, fleet, thing, open_folder, way, run_as, stream_as, uid
):
    open_folder.chmod(way)
    config["deployments"]["run_as"] = run_as
    told = document(
        "first",
        [with_code(fleet), fleet.stream("com.cameras", "com.model", f"{thing}/cameras/+/frame")],
        {"com.cameras": "1.0.0"},
    )
    if stream_as:
        told["components"]["com.cameras"]["runWith"] = {"posixUser": stream_as}
    with agents.running(config, open_folder) as agent:
        assert deploy(agent, told)["status"] == "SUCCEEDED"
        for answers in (1, 2):
            agent.frame("door", unruly.jpeg("answer"))
            until_sync(lambda: len(agent.results("com.cameras")) >= answers, why=lambda: agent.log)  # noqa: B023
            result = agent.results("com.cameras")[-1]
            said = result["predictions"][0]["label"].split()
            assert (said[:2], int(said[2]), said[4]) == (["runs", "as"], uid, "False"), result
            (worker,) = agent.workers()
            assert uids(worker) == {uid}
            assert Path(f"/proc/{worker}/oom_score_adj").read_text().strip() == "700"
            os.kill(worker, signal.SIGKILL)  # one that takes its place is nobody else
            until_sync(lambda: agent.workers() not in ([], [worker]), why=lambda: agent.log)  # noqa: B023


def test_an_owner_may_have_models_run_as_root(config, fleet, thing, open_folder):
    config["deployments"]["run_as"] = "root"
    told = document(
        "first",
        [with_code(fleet), fleet.stream("com.cameras", "com.model", f"{thing}/cameras/+/frame")],
        {"com.cameras": "1.0.0"},
    )
    with agents.running(config, open_folder) as agent:
        assert deploy(agent, told)["status"] == "SUCCEEDED"
        assert [uids(pid) for pid in agent.workers()] == [{0}]


def test_a_model_of_the_configuration_runs_unprivileged_unless_it_has_code_of_its_own(broker, thing, open_folder):
    config = agents.configuration(thing, broker.port, open_folder, {"source": "classifier"})
    with agents.running(config, open_folder) as agent:
        assert [uids(pid) for pid in agent.workers()] == [{65534}]
        agent.frame("door", SAMPLE.read_bytes())
        assert agent.result()["predictions"]
    config["models"]["model"] = unruly.model(open_folder / "own")
    with agents.running(config, open_folder) as agent:
        assert [uids(pid) for pid in agent.workers()] == [{0}]
        assert "the agent is root, and so are the workers of model" in agent.log
    surroundings = os.environ | {"PYTHONPATH": str(unruly.PLUGINS), "COLUMNS": "300"}
    told = subprocess.run(
        [sys.executable, "-m", "agent", "doctor", "-c", str(open_folder / "verge.toml")],
        capture_output=True, text=True, check=False, env=surroundings,
    ).stdout  # fmt: skip
    assert "its workers run as root" in told


def test_a_user_that_is_not_there_is_named_before_the_agent_starts(config, open_folder):
    config["deployments"]["run_as"] = "no-such-user"
    path = open_folder / "verge.toml"
    path.write_bytes(tomli_w.dumps(config).encode())
    done = subprocess.run(
        [sys.executable, "-m", "agent", "run", "-c", str(path), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "deployments.run_as: There is no user no-such-user." in done.stderr
