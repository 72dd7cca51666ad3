"""What is kept of a tuning: whole, found again, refused when the machine changed, set aside when it is broken."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from agent.config.models import ModelOptions
from agent.inference.manifest import resolve
from agent.inference.placement import Placement
from agent.inference.tuning import store as tuning_store
from agent.inference.tuning.store import TuningStore, stale
from agent.inference.tuning.values import Machine, Measured, Requirements, Tuning

DIGEST = "sha256:" + "0" * 64
REQUIREMENTS = Requirements("auto", {}, "auto", 0, 1, {"mean": [1.0, 2.0, 3.0]}, "", {})
MACHINE = Machine("Cortex-A76", "aarch64", 4, "3.11.7", {"ai-edge-litert": "2.3.0", "numpy": "2.4.0"})
TUNING = Tuning(
    model="net",
    digest=DIGEST,
    requirements=REQUIREMENTS,
    machine=MACHINE,
    measured_at="2030-01-01T00:00:00.000Z",
    took_s=3.0,
    pictures=("cat.jpg",),
    measured=(Measured(placement=Placement("litert", "cpu", 2), rounds=9, median_ms=8.0),),
    reason="it is the fastest",
)


def test_what_is_kept_is_found_again_and_replaced(tmp_path) -> None:
    store = TuningStore(tmp_path / "data")
    assert store.find(DIGEST, REQUIREMENTS) is None
    path = store.keep(TUNING)
    assert store.find(DIGEST, REQUIREMENTS) == TUNING
    store.keep(msgspec.structs.replace(TUNING, reason="another"))
    assert TuningStore(tmp_path / "data").find(DIGEST, REQUIREMENTS).reason == "another"
    assert list(store.folder.iterdir()) == [path]
    assert path.name.startswith("0" * 64)


def test_two_wishes_of_one_model_do_not_meet(tmp_path) -> None:
    store = TuningStore(tmp_path)
    store.keep(TUNING)
    other = msgspec.structs.replace(REQUIREMENTS, backend="onnx")
    assert store.find(DIGEST, other) is None
    store.keep(msgspec.structs.replace(TUNING, requirements=other))
    assert store.find(DIGEST, REQUIREMENTS) == TUNING
    assert store.forget(DIGEST) == 2
    assert store.find(DIGEST, REQUIREMENTS) is None


def test_only_the_newest_are_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tuning_store, "_MOST", 3)
    store = TuningStore(tmp_path)
    kept = [store.keep(msgspec.structs.replace(TUNING, digest=f"sha256:{number:064}")) for number in range(5)]
    for age, path in enumerate(reversed(kept[2:])):
        os.utime(path, (1e9 - age, 1e9 - age))
    assert set(store.folder.iterdir()) == set(kept[2:])
    newest = store.keep(TUNING)
    assert set(store.folder.iterdir()) == {newest, *kept[3:]}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 100, b'{"format": 1}'])
def test_a_broken_file_is_set_aside_and_counts_as_none(tmp_path, content, caplog) -> None:
    store = TuningStore(tmp_path)
    path = store.keep(TUNING)
    path.write_bytes(content)
    assert store.find(DIGEST, REQUIREMENTS) is None
    assert "unreadable" in caplog.text
    assert [each.name for each in store.folder.iterdir()] == [path.name + ".unreadable"]
    store.keep(TUNING)
    assert store.find(DIGEST, REQUIREMENTS) == TUNING


def test_a_disk_that_refuses_is_told_and_the_tuning_lasts_as_long_as_the_program(tmp_path, caplog) -> None:
    (tmp_path / "data").write_text("a file is in the way")
    store = TuningStore(tmp_path / "data")
    assert store.keep(TUNING) is None
    assert "cannot be kept" in caplog.text
    assert store.find(DIGEST, REQUIREMENTS) == TUNING
    assert TuningStore(tmp_path / "data").find(DIGEST, REQUIREMENTS) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"cpu": "Cortex-A72"}, "cpu was Cortex-A76 and is Cortex-A72"),
        ({"cpus": 2}, "cpus was 4 and is 2"),
        ({"python": "3.12.1"}, "python was 3.11.7 and is 3.12.1"),
        ({"packages": {"ai-edge-litert": "2.4.0", "numpy": "2.4.0"}}, "ai-edge-litert was 2.3.0 and is 2.4.0"),
        ({"packages": {"numpy": "2.4.0"}}, "ai-edge-litert was 2.3.0 and is not there"),
        (
            {"packages": {**MACHINE.packages, "onnxruntime": "1.23"}},
            "onnxruntime was not there and is 1.23",
        ),
    ],
)
def test_another_machine_or_runtime_makes_figures_stale(changes, reason) -> None:
    assert stale(TUNING, msgspec.structs.replace(MACHINE, **changes)) == reason


def test_the_wish_is_what_makes_a_difference_to_the_speed() -> None:
    options = ModelOptions(source="classifier")
    same = msgspec.structs.replace(options, options={"top_k": 1}, deadline_s=9.0, autotune=True)
    other = msgspec.structs.replace(options, threads=2)
    plain, thinned, bound = (Requirements.of(resolve(each, Path())) for each in (options, same, other))
    assert plain == thinned
    assert plain != bound
