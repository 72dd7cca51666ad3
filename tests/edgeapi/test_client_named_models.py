"""Whose rights a model has that a client names: never more than the client's, and never the agent's for others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.config.models import ModelOptions
from agent.edgeapi.edge_manager.package import packaged
from agent.edgeapi.models import ModelPlaces
from agent.errors import ModelRefusedError
from agent.users import Identity, RunAs, look_up, may_reach
from tests.support.models import onnx_identity

ANY = ModelOptions(source=".")
BACKEND = """
class Mine:
    pass
"""


@pytest.fixture
def nobody() -> Identity:
    return look_up(RunAs("nobody"))


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """A folder that every user gets to."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o755)
    return tmp_path


def with_code(folder: Path) -> Path:
    folder.mkdir()
    onnx_identity(folder / "model.onnx", (1, 6))
    (folder / "backend.py").write_text(BACKEND)
    (folder / "manifest.toml").write_text('file = "model.onnx"\nbackend = "backend.py:Mine"')
    return folder


def compiled(folder: Path) -> Path:
    folder.mkdir()
    (folder / "compiled.so").write_bytes(b"\x7fELF")
    return folder


def refused(places: ModelPlaces, url: Path) -> str:
    with pytest.raises(ModelRefusedError) as caught:
        places.find(str(url), ANY)
    return caught.value.code


def test_code_that_others_than_the_agents_user_name_runs_as_the_workers_user(opened: Path, nobody: Identity) -> None:
    shared = ModelPlaces(opened, user=nobody, shared=True)
    found = shared.find(str(with_code(opened / "model")), ANY)
    assert (found.own_code, found.user) == (True, nobody)


def test_files_that_the_workers_user_may_not_read_do_not_make_the_worker_the_agents(
    opened: Path, nobody: Identity
) -> None:
    folder = compiled(opened / "model")
    (folder / "compiled.so").chmod(0)
    assert ModelPlaces(opened, user=nobody, shared=True).find(str(folder), ANY).user == nobody


def test_without_such_a_user_code_is_only_run_from_the_roots_of_the_configuration(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    onnx_identity(plain / "model.onnx", (1, 6))
    shared, rooted = ModelPlaces(tmp_path, shared=True), ModelPlaces(tmp_path, (tmp_path,), shared=True)
    assert shared.find(str(plain), ANY).user is None
    for folder in (with_code(tmp_path / "own"), compiled(tmp_path / "compiled")):
        assert refused(shared, folder) == "model-outside"
        assert rooted.find(str(folder), ANY).user is None
        assert ModelPlaces(tmp_path).find(str(folder), ANY).user is None, "the agent's own user has what it wants"


def test_nobody_gets_at_a_folder_through_the_agent_that_is_closed_to_the_workers_user(
    opened: Path, nobody: Identity
) -> None:
    closed = opened / "closed"
    closed.mkdir(mode=0o700)
    model = closed / "model"
    model.mkdir(mode=0o755)
    onnx_identity(model / "model.onnx", (1, 6))
    (trick := opened / "trick").mkdir()
    (trick / "manifest.toml").write_text('file = "../closed/model/model.onnx"')
    assert not may_reach(model, nobody)
    shared = ModelPlaces(opened, user=nobody, shared=True)
    assert [refused(shared, url) for url in (model, trick)] == ["model-outside"] * 2
    assert ModelPlaces(opened, (closed,), user=nobody, shared=True).find(str(model), ANY).user == nobody


@pytest.mark.parametrize("text", ['file = "../../other/model.onnx"', 'file = "link.onnx"'])
def test_what_a_manifest_or_a_link_leads_to_is_below_the_roots_too(tmp_path: Path, text: str) -> None:
    (tmp_path / "other").mkdir()
    onnx_identity(tmp_path / "other" / "model.onnx", (1, 6))
    (inside := tmp_path / "roots" / "model").mkdir(parents=True)
    (inside / "link.onnx").symlink_to(tmp_path / "other" / "model.onnx")
    (inside / "manifest.toml").write_text(text)
    with pytest.raises(Exception, match="outside") as caught:
        ModelPlaces(tmp_path, (tmp_path / "roots",)).find(str(inside), ANY)
    assert caught.value.code == "model-outside"  # type: ignore[attr-defined]


def test_a_pipe_in_a_files_place_holds_up_nobody(tmp_path: Path) -> None:
    onnx_identity(tmp_path / "model.onnx", (1, 6))
    for name in ("manifest.json", "sagemaker_edge_manifest"):
        os.mkfifo(tmp_path / name)
    assert packaged(ModelPlaces(tmp_path).find(str(tmp_path), ANY)).name == ""


def test_a_name_that_is_no_text_is_made_one(tmp_path: Path) -> None:
    onnx_identity(tmp_path / "model.onnx", (1, 6))
    (tmp_path / "sagemaker_edge_manifest").write_text('{"metadata": {"model_name": "a\\ud800"}}')
    assert packaged(ModelPlaces(tmp_path).find(str(tmp_path), ANY)).name == "a?"


def test_a_path_is_as_long_as_paths_are(tmp_path: Path) -> None:
    onnx_identity(tmp_path / "model.onnx", (1, 6))
    assert refused(ModelPlaces(tmp_path), Path("x") / ("./" * 10)) == "model-missing"
    with pytest.raises(ModelRefusedError, match="too long"):
        ModelPlaces(tmp_path).find("./" * 3000 + "model.onnx", ANY)
