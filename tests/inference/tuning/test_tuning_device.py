"""What tuning learns of the device, and that its probe runs wherever a worker does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from agent.config.models import ModelOptions
from agent.errors import ModelRefusedError
from agent.inference import tuning
from agent.inference.manifest import resolve
from agent.inference.placement import most_threads
from agent.inference.tuning import device
from agent.inference.tuning.choice import candidates
from agent.inference.tuning.values import Ability, Requirements

PROBE = Path(tuning.__file__).parent / "probe.py"
REQUIREMENTS = Requirements("auto", {}, "auto", 0, 1, {}, "", {})
ABILITIES = [Ability("litert", ("cpu", "gpu")), Ability("onnx", ("cpu",)), Ability("dlr", problem=object())]


def test_the_probe_parses_as_python_3_9_and_imports_the_standard_library_alone() -> None:
    tree = ast.parse(PROBE.read_text(), feature_version=(3, 9))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in named} & {"agent", "numpy", "cv2", "msgspec"}


async def test_the_machine_tells_its_processor_and_the_runtimes_that_are_installed(tmp_path) -> None:
    machine = await device.machine(resolve(ModelOptions(source="classifier"), tmp_path))
    assert machine.cpus >= 1
    assert machine.cpu
    assert {"ai-edge-litert", "numpy"} <= machine.packages.keys()
    assert "pytest" not in machine.packages


async def test_a_backend_in_a_file_has_its_contents_as_its_version(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("class Mine: ...\n")
    spec = resolve(ModelOptions(source="classifier", backend="mine.py:Mine"), tmp_path)
    before = (await device.machine(spec)).packages["mine.py"]
    (tmp_path / "mine.py").write_text("class Mine: pass\n")
    assert (await device.machine(spec)).packages["mine.py"] != before


async def test_an_interpreter_that_cannot_be_run_is_refused(tmp_path) -> None:
    spec = resolve(ModelOptions(source="classifier", interpreter="/nowhere/python"), tmp_path)
    with pytest.raises(ModelRefusedError, match="cannot run /nowhere/python"):
        await device.machine(spec)


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: avx2\n", "AMD EPYC"),
        (
            "processor\t: 0\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n",
            "Raspberry Pi 4 Model B Rev 1.4",
        ),
        ("Hardware\t: Freescale i.MX6\n", "Freescale i.MX6"),
        ("", "unknown"),
    ],
)
def test_the_processor_is_named_by_whatever_the_system_has(cpuinfo, name) -> None:
    assert device.cpu_name(cpuinfo) == name


@pytest.mark.parametrize(("cpus", "workers", "threads"), [(1, 1, 1), (4, 1, 4), (16, 1, 4), (4, 2, 2), (2, 4, 1)])
def test_workers_share_the_processors(cpus, workers, threads) -> None:
    assert most_threads(cpus, workers) == threads


@pytest.mark.parametrize(
    ("requirements", "expected"),
    [
        (
            REQUIREMENTS,
            ["litert on cpu, 1 thread", "litert on cpu, 2 threads", "onnx on cpu, 1 thread", "onnx on cpu, 2 threads",
             "litert on gpu, 1 thread", "litert on gpu, 2 threads"],
        ),
        (
            Requirements("auto", {}, "auto", 3, 1, {}, "", {}),
            ["litert on cpu, 3 threads", "onnx on cpu, 3 threads", "litert on gpu, 3 threads"],
        ),
        (Requirements("auto", {}, "gpu", 1, 1, {}, "", {}), ["litert on gpu, 1 thread", "onnx on gpu, 1 thread"]),
    ],
)  # fmt: skip
def test_what_was_left_open_is_varied_and_the_processor_comes_first(requirements, expected) -> None:
    assert [str(each) for each in candidates(requirements, ABILITIES, 2)] == expected
