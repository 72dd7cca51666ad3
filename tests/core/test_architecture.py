"""The shape of the code is a promise too."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import agent

ROOT = Path(agent.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
RUNTIME = ROOT / "inference" / "runtime"
NATIVE = {"numpy", "cv2", "ai_edge_litert", "tflite_runtime", "tensorflow", "onnxruntime", "dlr"}
WORKER_SIDE = (RUNTIME, ROOT / "sources" / "runtime", ROOT / "demo" / "camera.py")
LONGEST = 320

LAYERS = {
    "errors": 0,
    "strict": 1,
    "files": 1,
    "configfiles": 1,
    "overrides": 1,
    "topics": 1,
    "frames": 1,
    "aws": 2,
    "transport": 2,
    "inference": 2,
    "recipes": 2,
    "artifacts": 3,
    "catalog": 3,
    "components": 3,
    "jobs": 3,
    "results": 3,
    "runtimes": 3,
    "sources": 3,
    "greengrass": 4,
    "tes": 4,
    "tuning": 4,
    "streams": 5,
    "status": 6,
    "uplinks": 6,
    "provision": 6,
    "deployment": 7,
    "config": 8,
    "logs": 8,
    "app": 9,
    "service": 9,
    "demo": 10,
    "doctor": 10,
    "cli": 11,
}
"""A package or module imports only from its own and lower layers; packages of one layer meet through values."""
PURE = (
    "artifacts/stores/s3answers.py", "aws/answers.py", "catalog/access.py", "catalog/entries.py", "catalog/families.py",
    "catalog/keys.py", "catalog/requirements.py", "catalog/scalars.py", "catalog/shelf.py", "components/health.py",
    "components/lifecycle.py", "components/order.py", "deployment/blocks.py", "deployment/canary.py",
    "deployment/document.py", "deployment/expected.py", "deployment/groups.py", "deployment/plan.py",
    "deployment/queue.py", "deployment/resolver.py", "deployment/trust.py", "doctor/needs.py", "frames/envelope.py",
    "frames/headers.py", "frames/recognise.py", "frames/reports.py", "greengrass/messages.py", "inference/deadline.py",
    "inference/restarts.py", "inference/runtime/messages.py", "jobs/execution.py", "jobs/service/queue.py",
    "jobs/shadow.py", "provision/acl.py", "provision/policy.py", "recipes/configuration.py", "recipes/lifecycle.py",
    "recipes/variables.py", "recipes/versions.py", "results/agreement.py", "results/filters.py", "runtimes/choose.py",
    "runtimes/combinations.py", "runtimes/host.py", "runtimes/requirements.py", "runtimes/tags.py",
    "runtimes/wheels.py", "sources/beat.py", "sources/watch.py", "streams/queue.py", "streams/tally.py",
    "tes/exchange.py", "topics.py", "transport/backoff.py", "transport/filters.py", "transport/iotcore/batching.py",
    "transport/iotcore/bucket.py", "transport/iotcore/events.py", "transport/iotcore/reasons.py",
    "transport/iotcore/rules.py", "transport/limits.py", "transport/plaintext.py", "transport/spool/entry.py",
    "transport/spool/events.py", "transport/spool/schedule.py", "tuning/candidates.py", "tuning/choice.py",
)  # fmt: skip
IO = {"asyncio", "os", "pathlib", "socket", "subprocess", "tempfile", "threading", "time", "logging", "sqlite3"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def place(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_one_noun_and_stays_short(path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_worker_side_imports_native_code(path) -> None:
    if not any(path.is_relative_to(place) for place in WORKER_SIDE):
        assert {name.split(".")[0] for name in imports(path)} & NATIVE == set()


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_worker_side_imports_nothing_of_the_core_and_parses_as_python_3_9(path) -> None:
    ours = {name for name in imports(path) if name.split(".")[0] == "agent"}
    assert all(name.startswith("agent.inference.runtime") for name in ours)
    ast.parse(path.read_text(), feature_version=(3, 9))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path) -> None:
    here = place(path)
    if here.startswith("__"):
        return
    used = {name.split(".")[1] for name in imports(path) if name.startswith("agent.")}
    upward = {name for name in used & set(LAYERS) if LAYERS[name] > LAYERS[here]}
    assert upward == set()


def test_packages_of_one_layer_do_not_import_each_other() -> None:
    crossings = {
        (place(path), other)
        for path in SOURCES
        for other in {name.split(".")[1] for name in imports(path) if name.startswith("agent.")}
        if place(path) in LAYERS and other in LAYERS and place(path) != other and LAYERS[place(path)] == LAYERS[other]
    }
    assert crossings == set()


def test_only_the_composition_root_imports_every_package() -> None:
    packages = {"transport", "inference", "results", "streams"}
    knowing = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if packages <= {name.split(".")[1] for name in imports(path) if name.startswith("agent.")}
    }
    assert knowing <= {"app.py", "deployment/parts.py", "status.py", "streams/outlet.py", "streams/streams.py"}


@pytest.mark.parametrize("name", PURE)
def test_a_pure_core_touches_neither_clock_nor_socket_nor_file(name) -> None:
    assert {module.split(".")[0] for module in imports(ROOT / name)} & IO == set()


def test_every_public_name_that_a_module_lists_is_there() -> None:
    missing = []
    for info in pkgutil.walk_packages([str(ROOT)], "agent."):
        if info.name.endswith("__main__") or ".backends." in info.name or info.name == "agent.demo.camera":
            continue
        module = importlib.import_module(info.name)
        missing += [f"{info.name}.{name}" for name in getattr(module, "__all__", []) if not hasattr(module, name)]
    assert missing == []


def test_the_core_starts_without_any_native_inference_code() -> None:
    code = f"import sys, agent.app, agent.cli.run; print(sorted({NATIVE} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_nothing_is_pickled_or_evaluated_and_no_exception_is_swallowed() -> None:
    sins = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                sins.append((path.name, node.lineno))
            if isinstance(node, ast.ExceptHandler) and all(isinstance(inner, ast.Pass) for inner in node.body):
                sins.append((path.name, node.lineno))
        if {"pickle", "marshal", "shelve"} & imports(path):
            sins.append((path.name, 0))
    assert sins == []
