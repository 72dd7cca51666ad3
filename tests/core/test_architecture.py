"""The shape of the code is a promise too: each test names those who break it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from functools import cache
from itertools import combinations
from pathlib import Path

import agent

ROOT = Path(agent.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
RUNTIME = ROOT / "inference" / "runtime"
NATIVE = {"numpy", "cv2", "ai_edge_litert", "tflite_runtime", "tensorflow", "onnxruntime", "dlr"}
WORKER_SIDE = (RUNTIME, ROOT / "sources" / "runtime", ROOT / "demo" / "belt.py", ROOT / "demo" / "camera.py")
LONGEST = 600
"""Lines: a file of more is rarely one concept."""

LAYERS = {
    "errors": 0,
    "disk": 1,
    "eventstream": 1,
    "files": 1,
    "text": 1,
    "topics": 1,
    "users": 1,
    "config": 2,
    "aws": 3,
    "frames": 3,
    "inference.runtime": 3,
    "mqtt": 3,
    "mqtt.iotcore": 3,
    "mqtt.outbox": 3,
    "aws.jobs": 4,
    "aws.tes": 4,
    "greengrass.errors": 4,
    "greengrass.recipes": 4,
    "mqtt.greengrass": 4,
    "inference": 4,
    "aws.provision": 5,
    "greengrass.artifacts": 5,
    "greengrass.catalog": 5,
    "greengrass.components": 5,
    "inference.environments": 5,
    "results": 5,
    "sources": 5,
    "edgeapi.protos": 1,
    "edgeapi": 6,
    "greengrass.cloud": 6,
    "inference.tuning": 6,
    "streams": 6,
    "greengrass.services": 7,
    "greengrass.trust": 7,
    "status": 7,
    "greengrass.deployments": 8,
    "greengrass.fleet": 9,
    "greengrass.ipc": 9,
    "logs": 9,
    "greengrass": 10,
    "app": 11,
    "service": 11,
    "demo": 12,
    "doctor": 12,
    "cli": 13,
}
"""A room imports only from lower layers; rooms of one layer meet through values."""
OF_ONE_SEAM = {("mqtt", "mqtt.iotcore"), ("mqtt", "mqtt.outbox")}
"""Where the factory of the outer room imports the inner ones, each of which builds on the outer one's seam."""
PURE = [
    "cli/arrays.py",
    "cli/telling.py",
    "config/reload.py",
    "aws/answers.py",
    "aws/jobs/codec.py",
    "aws/jobs/execution.py",
    "aws/jobs/retry.py",
    "aws/jobs/service/queue.py",
    "aws/jobs/shadow.py",
    "aws/tes/exchange.py",
    "doctor/needs.py",
    "edgeapi/edge_manager/capture/queue.py",
    "edgeapi/edge_manager/capture/record.py",
    "edgeapi/edge_manager/capture/request.py",
    "edgeapi/edge_manager/settings.py",
    "edgeapi/edge_manager/tensors.py",
    "edgeapi/lookout/answers.py",
    "edgeapi/lookout/bitmaps.py",
    "edgeapi/lookout/states.py",
    "edgeapi/openinference/body.py",
    "edgeapi/openinference/messages.py",
    "edgeapi/openinference/models.py",
    "edgeapi/openinference/paths.py",
    "edgeapi/openinference/tensors.py",
    "eventstream/frames.py",
    "eventstream/rpc.py",
    "frames/envelope.py",
    "frames/extent.py",
    "frames/foreign.py",
    "frames/headers.py",
    "frames/packing.py",
    "frames/pieces.py",
    "frames/recognise.py",
    "frames/spelling.py",
    "greengrass/artifacts/stores/s3answers.py",
    "greengrass/catalog/absent.py",
    "greengrass/catalog/amazon.py",
    "greengrass/catalog/access.py",
    "greengrass/catalog/entries.py",
    "greengrass/catalog/families.py",
    "greengrass/catalog/keys.py",
    "greengrass/catalog/parts.py",
    "greengrass/catalog/requirements.py",
    "greengrass/catalog/scalars.py",
    "greengrass/catalog/entries.py",
    "greengrass/cloud/messages.py",
    "greengrass/components/lifecycle.py",
    "greengrass/components/order.py",
    "greengrass/deployments/blocks.py",
    "greengrass/deployments/bootstrap.py",
    "greengrass/deployments/commands.py",
    "greengrass/deployments/consent.py",
    "greengrass/deployments/document.py",
    "greengrass/deployments/request.py",
    "greengrass/deployments/nucleus.py",
    "greengrass/deployments/plan.py",
    "greengrass/deployments/queue.py",
    "greengrass/deployments/resolver.py",
    "greengrass/deployments/notes.py",
    "greengrass/deployments/waiting.py",
    "greengrass/trust/policy.py",
    "greengrass/fleet/health.py",
    "greengrass/ipc/connection.py",
    "greengrass/ipc/shapes.py",
    "greengrass/recipes/configuration.py",
    "greengrass/recipes/lifecycle.py",
    "greengrass/recipes/templates.py",
    "greengrass/recipes/variables.py",
    "greengrass/recipes/versions.py",
    "greengrass/services/shadows/document.py",
    "greengrass/services/shadows/merging.py",
    "greengrass/services/shadows/names.py",
    "greengrass/services/shadows/options.py",
    "greengrass/services/logs/events.py",
    "greengrass/services/streams/definition.py",
    "greengrass/services/streams/options.py",
    "greengrass/services/streams/wire.py",
    "greengrass/services/secrets/secret.py",
    "greengrass/trust/freshness.py",
    "greengrass/trust/keylist.py",
    "greengrass/trust/order.py",
    "greengrass/trust/policy.py",
    "greengrass/trust/signatures.py",
    "inference/environments/choose.py",
    "inference/environments/combinations.py",
    "inference/environments/host.py",
    "inference/environments/requirements.py",
    "inference/environments/wheels.py",
    "inference/guilt.py",
    "inference/masks.py",
    "inference/planes.py",
    "inference/predictions.py",
    "inference/runtime/kinds.py",
    "inference/runtime/messages.py",
    "inference/tuning/choice.py",
    "inference/tuning/choice.py",
    "mqtt/backoff.py",
    "mqtt/greengrass/operations.py",
    "mqtt/greengrass/places.py",
    "mqtt/greengrass/reasons.py",
    "mqtt/greengrass/streams.py",
    "mqtt/iotcore/batching.py",
    "mqtt/iotcore/quotas.py",
    "mqtt/iotcore/reasons.py",
    "mqtt/limits.py",
    "mqtt/history.py",
    "mqtt/outbox/record.py",
    "mqtt/outbox/scheduler.py",
    "mqtt/versions.py",
    "results/attachments.py",
    "results/comparison/answers.py",
    "results/comparison/boxes.py",
    "results/comparison/expected.py",
    "results/comparison/finite.py",
    "results/comparison/maps.py",
    "results/comparison/masks.py",
    "results/comparison/pairing.py",
    "results/comparison/pairs.py",
    "results/comparison/points.py",
    "results/comparison/recording.py",
    "results/comparison/tensors.py",
    "results/comparison/texts.py",
    "results/comparison/tolerances.py",
    "results/comparison/vectors.py",
    "results/filters.py",
    "sources/watch.py",
    "streams/queue.py",
    "streams/metrics.py",
    "topics.py",
]
"""Modules that decide and touch nothing: no clock, socket, file, thread or log."""
IO = {"asyncio", "os", "pathlib", "socket", "subprocess", "tempfile", "threading", "time", "logging", "sqlite3"}


@cache
def imports(path: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room(dotted: str) -> str | None:
    """The room of a module, ``agent.`` taken off: the longest name in ``LAYERS`` that it begins with."""
    parts = dotted.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in LAYERS), None)


def arrows(path: Path) -> set[tuple[str, str]]:
    """The rooms that a module of a room imports from; a package alone is meant by what is imported from it."""
    here = room(name(path))
    ours = {found.removeprefix("agent.") for found in imports(path) if found.startswith("agent.")}
    packages = {one for one in ours if any(other.startswith(f"{one}.") for other in ours)}
    return {(here, there) for there in map(room, ours - packages) if here and there and here != there}


def public_classes(path: Path) -> set[str]:
    body = ast.parse(path.read_text()).body
    return {node.name for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}


def mapped(docstring: str) -> set[str]:
    """The names in the first column of a docstring's tables."""
    return set(re.findall(r"^``(\w+)``  ", docstring, re.MULTILINE))


def test_a_module_is_one_concept_and_no_longer() -> None:
    long = {name(path): lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > LONGEST}
    assert long == {}


def test_only_the_worker_side_imports_native_code() -> None:
    core = [path for path in SOURCES if not any(path.is_relative_to(place) for place in WORKER_SIDE)]
    assert {name(path) for path in core if {one.split(".")[0] for one in imports(path)} & NATIVE} == set()


def test_the_worker_side_imports_nothing_of_the_core_and_parses_as_python_3_9() -> None:
    knowing = set()
    for path in RUNTIME.rglob("*.py"):
        ast.parse(path.read_text(), path.name, feature_version=(3, 9))
        ours = {one for one in imports(path) if one.split(".")[0] == "agent"}
        knowing |= {(name(path), one) for one in ours if not one.startswith("agent.inference.runtime")}
    assert knowing == set()


def test_every_module_stands_in_a_room() -> None:
    assert {name(path) for path in SOURCES if room(name(path)) is None} == {"__init__", "__main__"}


def test_a_package_maps_all_its_modules_and_nothing_else() -> None:
    unmapped, gone = set(), set()
    for init in ROOT.rglob("__init__.py"):
        place = str(init.parent.relative_to(ROOT))
        inside = {path.stem for path in init.parent.glob("*.py") if not path.stem.startswith("__")}
        inside |= {path.parent.name for path in init.parent.glob("*/__init__.py")}
        docstring = ast.get_docstring(ast.parse(init.read_text())) or ""
        named = set(re.findall(r"``([\w]+)``", docstring))
        unmapped |= {(place, one) for one in inside - named}
        gone |= {(place, one) for one in mapped(docstring) - inside}
    assert (unmapped, gone) == (set(), set())


def test_no_two_public_classes_share_a_name_where_their_rooms_meet() -> None:
    meeting = {frozenset(pair) for path in SOURCES for pair in arrows(path)}
    places: dict[str, list[Path]] = {}
    for path in SOURCES:
        for public in public_classes(path):
            places.setdefault(public, []).append(path)
    shared = {
        (public, name(one), name(other))
        for public, paths in places.items()
        for one, other in combinations(paths, 2)
        if len(rooms := frozenset((room(name(one)), room(name(other))))) == 1 or rooms in meeting
    }
    assert shared == set()


def test_arrows_point_one_way() -> None:
    upward = {
        (name(path), there)
        for path in SOURCES
        for here, there in arrows(path)
        if LAYERS[there] >= LAYERS[here] and not {(here, there), (there, here)} & OF_ONE_SEAM
    }
    assert upward == set()


def test_only_the_composition_root_imports_every_package() -> None:
    packages = {"mqtt", "inference", "results", "streams"}
    knowing = {name(path) for path in SOURCES if packages <= {there.split(".")[0] for _, there in arrows(path)}}
    assert knowing <= {"app", "greengrass.wiring", "status.board"}


def test_a_pure_core_touches_neither_clock_nor_socket_nor_file() -> None:
    impure = {core: found for core in PURE if (found := {one.split(".")[0] for one in imports(ROOT / core)} & IO)}
    assert impure == {}


def test_every_public_name_that_a_module_lists_is_there() -> None:
    missing = []
    for info in pkgutil.walk_packages([str(ROOT)], "agent."):
        if info.name.endswith("__main__") or ".backends." in info.name or info.name == "agent.demo.camera":
            continue
        module = importlib.import_module(info.name)
        missing += [f"{info.name}.{public}" for public in getattr(module, "__all__", []) if not hasattr(module, public)]
    assert missing == []


def test_the_core_starts_without_any_native_inference_code() -> None:
    code = f"import sys, agent.app, agent.cli.run; print(sorted({NATIVE} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_deployments_load_none_of_what_components_alone_need() -> None:
    code = (
        "import sys, agent.greengrass.wiring\n"
        "rooms = ('agent.greengrass.ipc.', 'agent.greengrass.services.', 'agent.eventstream.')\n"
        "print(sorted(name for name in sys.modules if name.startswith(rooms)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "['agent.greengrass.services.base']"


def test_nothing_is_pickled_or_evaluated_and_no_exception_is_swallowed() -> None:
    sins = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
                sins.append((name(path), node.lineno))
            if isinstance(node, ast.ExceptHandler) and all(isinstance(inner, ast.Pass) for inner in node.body):
                sins.append((name(path), node.lineno))
        if {"pickle", "marshal", "shelve"} & imports(path):
            sins.append((name(path), 0))
    assert sins == []


MAKERS = {"mkdir", "write_bytes", "write_text", "touch"}
"""Calls that leave something with the modes of the umask."""
OTHERS_PLACES = (
    "cli.",
    "demo.",
    "inference.environments.",
    "greengrass.components.limits",
    "greengrass.components.freezer",
)
"""What a person asked for, what is gone in a moment or read by a worker, and the kernel's files."""


def test_what_the_agent_writes_gets_its_mode_in_one_place() -> None:
    elsewhere = set()
    for path in SOURCES:
        if name(path).startswith(OTHERS_PLACES) or name(path) == "files":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MAKERS:
                told = {keyword.arg for keyword in node.keywords}
                elsewhere |= set() if "mode" in told else {(name(path), ast.unparse(node.func))}
    # Both write to what ``make_file`` made.
    assert elsewhere == {
        ("greengrass.components.record", "temporary.write_bytes"),
        ("results.snapshots", "temporary.write_bytes"),
    }
