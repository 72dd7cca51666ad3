"""A runtime is an environment that was built and proved; nothing less is ever handed out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from agent.errors import InvalidInputError, UnreachableError
from agent.inference.environments import requirements
from agent.inference.environments.build import build
from agent.inference.environments.choose import Candidate, WheelSource
from agent.inference.environments.combinations import FAMILIES, Combination
from agent.inference.environments.errors import CandidateFailedError, RuntimeUnreachableError, UnsupportedRuntimeError
from agent.inference.environments.host import Interpreter
from agent.inference.environments.provider import Provider
from agent.inference.environments.spec import RuntimeSpec
from agent.inference.environments.store import EnvironmentStore
from tests.inference.environments import house

ROOT = Path(__file__).parents[3]
ANYWHERE = frozenset({"x86_64", "aarch64"})


def spec_of(root: Path, family: str = "opencv", **fields) -> RuntimeSpec:
    """What a component asks for, on this Python alone, so that no other makes the test longer."""
    return RuntimeSpec("verge.runtime.test", family, root, **({"interpreter": sys.executable, "index": False} | fields))


def proved(root: Path) -> list[Path]:
    return [folder for folder, _ in EnvironmentStore(root).ready()]


def run(python: str, code: str) -> str:
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return house.opencv_house(tmp_path_factory.mktemp("wheels"))


async def test_a_runtime_is_built_offline_proved_linked_found_again_and_pruned(tmp_path) -> None:
    wheelhouse = house.downloaded(tmp_path / "house", "tflite_runtime*", "numpy-1.26*", "opencv*4.10*")
    spec = spec_of(tmp_path / "root", "litert", packages=("tflite-runtime==2.14.0",), wheelhouse=wheelhouse)
    lines: list[str] = []
    environment = await Provider().provide(spec, lines.append)
    assert dict(environment.packages) == {
        "tflite-runtime": "2.14.0", "numpy": "1.26.4", "opencv-python-headless": "4.10.0.84",
    }  # fmt: skip
    assert not environment.own
    assert run(environment.python, "import numpy, sys; print(numpy.__version__, sys.prefix)") == (
        f"1.26.4 {Path(environment.python).parent.parent}"
    )
    folder = Path(environment.python).parent.parent
    record = json.loads((folder / ".proved").read_bytes())
    assert all(len(digest) == 64 for digest in record["wheels"].values())
    assert (tmp_path / "root" / "greengrass_ml_tflite_venv").resolve() == folder
    assert run(str(tmp_path / "root" / "greengrass_ml_tflite_venv" / "bin" / "python"), "import tflite_runtime") == ""
    assert [line.split()[0] for line in lines] == ["building", "Installing", "proving", "ready:"]
    assert sorted(entry.name for entry in folder.parent.iterdir()) == [
        ".lock", "greengrass_ml_tflite_venv", folder.name,
    ]  # fmt: skip

    later = Provider()
    assert later.find(spec) == environment
    assert await later.provide(spec, lines.append) == environment
    assert len(lines) == 4
    assert later.find(spec_of(spec.root, "litert", wheelhouse=wheelhouse)) is None
    later.prune([environment])
    assert later.find(spec) == environment
    later.prune([])
    assert sorted(entry.name for entry in folder.parent.iterdir()) == [".lock"]


@pytest.mark.parametrize(
    ("family", "patterns", "version"),
    [
        ("litert", ("ai_edge*", "backports*", "flatb*", "ml_dtypes*", "proto*", "tqdm*", "typing*"), "litert 2."),
        ("dlr", ("dlr*", "requests*", "distro*", "certifi*", "charset*", "idna*", "urllib3*"), "dlr 1.6.0"),
    ],
)
async def test_each_family_is_proved_by_a_worker_of_its_own(tmp_path, family, patterns, version) -> None:
    wheelhouse = house.downloaded(house.opencv_house(tmp_path), *patterns)
    environment = await Provider().provide(spec_of(tmp_path / "root", family, wheelhouse=wheelhouse))
    assert environment.description.startswith(version)
    assert environment.python.startswith(str(tmp_path / "root" / family))


async def test_numpy_of_the_wrong_age_installs_and_falls_in_the_proof(tmp_path) -> None:
    wheelhouse = house.downloaded(house.opencv_house(tmp_path), "tflite_runtime*")
    careless = Combination(
        "tflite-runtime + any numpy", ("tflite-runtime", "numpy", "opencv-python-headless"), ANYWHERE
    )
    provider = Provider(families={"litert": (careless,)})
    spec = spec_of(tmp_path / "root", "litert", packages=("tflite-runtime==2.14.0",), wheelhouse=wheelhouse)
    with pytest.raises(UnsupportedRuntimeError) as refused:
        await provider.provide(spec)
    assert refused.value.tried[0].startswith("tflite-runtime + any numpy on Python")
    assert "its worker failed" in refused.value.tried[0]
    assert proved(spec.root) == []
    assert [entry.name for entry in spec.root.iterdir()] == [".lock"]


async def test_what_answers_wrongly_falls_too(tmp_path) -> None:
    wheelhouse = house.opencv_house(tmp_path)
    house.wheel(wheelhouse, "opencv-python-headless", "99", {"cv2.py": "__version__ = '99'\n"})
    spec = spec_of(tmp_path / "root", packages=("opencv-python-headless==99",), wheelhouse=wheelhouse)
    with pytest.raises(UnsupportedRuntimeError, match="its worker failed"):
        await Provider().provide(spec)


async def test_a_broken_wheel_falls_with_pips_words_and_the_next_combination_serves(tmp_path, wheels) -> None:
    wheelhouse = tmp_path / "house"
    wheelhouse.mkdir()
    for path in wheels.iterdir():
        (wheelhouse / path.name).symlink_to(path)
    (wheelhouse / "numpy-99.0-py3-none-any.whl").write_bytes(b"half a wheel")
    requirements_of = ("numpy>=2", "opencv-python-headless")
    families = {
        "opencv": (
            Combination("the newest", ("numpy>=99", requirements_of[1]), ANYWHERE),
            Combination("what works", ("numpy<99", requirements_of[1]), ANYWHERE),
        )
    }
    lines: list[str] = []
    spec = spec_of(tmp_path / "root", wheelhouse=wheelhouse)
    environment = await Provider(families=families).provide(spec, lines.append)
    fell = next(line for line in lines if line.startswith("the newest on Python") and ": " in line)
    assert "numpy" in fell
    assert "invalid" in fell or "not a zip" in fell.lower()
    assert proved(spec.root) == [Path(environment.python).parent.parent]


async def test_a_wheel_whose_requirement_is_missing_falls_with_the_name_of_what_is_missing(tmp_path, wheels) -> None:
    house.wheel(tmp_path / "more", "pleasing", "1.0", {"pleasing.py": ""}, requires=["not-in-the-house"])
    (tmp_path / "more" / "deeper").symlink_to(wheels)
    for path in wheels.iterdir():
        (tmp_path / "more" / path.name).symlink_to(path)
    with pytest.raises(UnsupportedRuntimeError, match="not-in-the-house"):
        await Provider().provide(spec_of(tmp_path / "root", wheelhouse=tmp_path / "more", packages=("pleasing",)))


async def test_a_wheel_that_would_have_to_be_built_is_never_installed(tmp_path, wheels) -> None:
    wheelhouse = tmp_path / "house"
    wheelhouse.mkdir()
    (wheelhouse / "numpy-2.9.tar.gz").write_bytes(b"its setup.py would run")
    (wheelhouse / "opencv_python_headless-5.0-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(UnsupportedRuntimeError, match="there is no wheel of numpy"):
        await Provider().provide(spec_of(tmp_path / "root", wheelhouse=wheelhouse))


async def test_two_at_once_build_once(tmp_path, wheels) -> None:
    spec = spec_of(tmp_path / "root", wheelhouse=wheels)
    lines: list[str] = []
    first, second = await asyncio.gather(*(Provider().provide(spec, lines.append) for _ in range(2)))
    assert first == second
    assert sum(line.startswith("building") for line in lines) == 1
    assert f"another build is under way in {spec.root}: waiting for its end" in lines


BUILDER = """
import asyncio, sys
from pathlib import Path
from agent.inference.environments.provider import Provider
from agent.inference.environments.spec import RuntimeSpec
spec = RuntimeSpec("test", "opencv", Path(sys.argv[1]), wheelhouse=Path(sys.argv[2]), index=False,
                   interpreter=sys.executable)
asyncio.run(Provider().provide(spec, lambda line: print(line, flush=True)))
"""


@pytest.mark.parametrize("moment", ["building", "Installing", "proving"])
def test_a_build_that_is_killed_leaves_nothing_that_counts_and_the_next_one_clears_it(tmp_path, wheels, moment) -> None:
    root = tmp_path / "root"
    command = [sys.executable, "-c", BUILDER, str(root), str(wheels)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        assert any(line.startswith(moment) for line in builder.stdout)
        os.kill(builder.pid, signal.SIGKILL)
        builder.wait()
    provider, spec = Provider(), spec_of(root, wheelhouse=wheels)
    assert provider.find(spec) is None
    if moment != "building":
        environment = asyncio.run(provider.provide(spec))
        assert proved(root) == [Path(environment.python).parent.parent]
        assert sorted(entry.name for entry in root.iterdir()) == [".lock", proved(root)[0].name]


async def test_a_cancelled_build_leaves_nothing_behind(tmp_path, wheels) -> None:
    spec = spec_of(tmp_path / "root", wheelhouse=wheels)
    installing = asyncio.Event()
    task = asyncio.create_task(
        Provider().provide(spec, lambda line: installing.set() if line.startswith("Installing") else None)
    )
    await installing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry.name for entry in spec.root.iterdir()] == [".lock"]


async def test_a_build_that_takes_too_long_is_given_up_and_may_be_tried_again(tmp_path, wheels) -> None:
    with pytest.raises(RuntimeUnreachableError) as late:
        await Provider(timeout_s=0.05).provide(spec_of(tmp_path / "root", wheelhouse=wheels))
    assert late.value.code == "runtime-timeout"


async def test_an_index_that_cannot_be_reached_is_no_refusal(tmp_path, free_port, monkeypatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    # A requirement that the agent's own Python does not meet, or that would serve.
    spec = spec_of(tmp_path / "root", "opencv", index=True, packages=("verge-nothing",))
    with pytest.raises(UnreachableError) as unreachable:
        await Provider().provide(spec)
    assert isinstance(unreachable.value, RuntimeUnreachableError)
    assert not isinstance(unreachable.value, InvalidInputError)
    # How many there are is a matter of this machine's Python.
    first, *others = [line for line in unreachable.value.tried if "from the package index: no Python" not in line]
    assert "the package index cannot be reached" in first
    assert all(line.endswith("from the package index: not tried") for line in others[:-1])
    assert proved(spec.root) == []


async def test_where_nothing_can_be_installed_the_agents_own_python_serves_and_says_so_loudly(tmp_path) -> None:
    lines: list[str] = []
    environment = await Provider().provide(spec_of(tmp_path / "root"), lines.append)
    assert environment.own
    assert environment.python == sys.executable
    assert environment.description.startswith("THE AGENT'S OWN PYTHON serves: opencv ")
    assert "no wheelhouse, and the index is switched off" in environment.description
    assert lines == [environment.description]
    assert Provider().find(spec_of(tmp_path / "root")) is None


async def test_the_agents_own_python_is_no_stand_in_for_a_wheelhouse_or_an_interpreter_that_the_user_named(
    tmp_path,
) -> None:
    (tmp_path / "house").mkdir()
    with pytest.raises(UnsupportedRuntimeError, match="there is no wheel of numpy"):
        await Provider().provide(spec_of(tmp_path / "root", wheelhouse=tmp_path / "house"))
    with pytest.raises(UnsupportedRuntimeError, match="the index is switched off"):
        await Provider().provide(spec_of(tmp_path / "root", interpreter=str(tmp_path / "python")))


async def test_without_room_nothing_is_built(tmp_path, wheels, monkeypatch) -> None:
    monkeypatch.setattr(requirements, "ROOM_BYTES", 1 << 60)
    with pytest.raises(UnsupportedRuntimeError) as refused:
        await Provider().provide(spec_of(tmp_path / "root", wheelhouse=wheels, packages=("numpy<0",)))
    assert refused.value.code == "runtime-no-room"
    assert "MiB are free, an environment needs" in refused.value.tried[0]


@pytest.mark.parametrize(
    "named", ["greengrass_ml_tflite_venv", "greengrass_ml_tflite_conda/envs/greengrass_ml_tflite_conda"]
)
async def test_without_the_installer_greengrasss_own_environment_is_proved_and_used(tmp_path, named) -> None:
    root = tmp_path / "root"
    venv.create(root / named, symlinks=True, with_pip=False)
    packages = root / named / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (packages / "all.pth").write_text(f"{house.SITE}\n")
    spec = spec_of(root, "litert", install=False)
    provider = Provider()
    environment = await provider.provide(spec)
    assert environment.python == str(root / named / "bin" / "python3")
    assert not environment.own
    assert "UseInstaller is false, nothing was installed" in environment.description
    assert provider.find(spec) == environment
    assert [entry.name for entry in root.iterdir()] == [named.partition("/")[0]]


async def test_without_the_installer_the_agents_own_python_is_the_last_to_be_asked(tmp_path) -> None:
    environment = await Provider().provide(spec_of(tmp_path / "root", "onnx", install=False))
    assert environment.own
    assert environment.description.startswith("THE AGENT'S OWN PYTHON serves: onnx ")
    assert not (tmp_path / "root").exists()


async def test_without_the_installer_and_without_an_environment_it_is_refused(tmp_path) -> None:
    venv.create(tmp_path / "root" / "greengrass_ml_dlr_venv", symlinks=True, with_pip=False)
    spec = spec_of(tmp_path / "root", "dlr", install=False, packages=("dlr==1.6.0", "numpy<1"))
    with pytest.raises(UnsupportedRuntimeError) as refused:
        await Provider().provide(spec)
    assert refused.value.tried[0].endswith("greengrass_ml_dlr_venv/bin/python3: it has no numpy, no cv2, no dlr")
    assert refused.value.tried[1].startswith("the agent's own Python: ")
    assert "UseInstaller" in (refused.value.hint or "")


async def test_a_folder_of_the_users_with_greengrasss_name_is_left_as_it_is(tmp_path) -> None:
    theirs = tmp_path / "root" / "greengrass_ml_tflite_venv"
    theirs.mkdir(parents=True)
    store = EnvironmentStore(tmp_path / "root")
    assert "stays as it is" in store.link(tmp_path / "root" / "litert-0123456789abcdef", "litert")
    assert theirs.is_dir()
    assert not theirs.is_symlink()


async def test_an_environment_that_lost_its_python_is_built_again(tmp_path, wheels) -> None:
    spec = spec_of(tmp_path / "root", wheelhouse=wheels)
    environment = await Provider().provide(spec)
    Path(environment.python).unlink()
    assert Provider().find(spec) is None
    assert await Provider().provide(spec) == environment


async def test_pruning_waits_for_nobody_and_takes_nothing_from_one_who_builds(tmp_path, wheels) -> None:
    spec = spec_of(tmp_path / "root", wheelhouse=wheels)
    provider = Provider()
    environment = await provider.provide(spec)
    async with EnvironmentStore(spec.root).locked(lambda _line: None):
        provider.prune([])
        assert Provider().find(spec) == environment


async def test_a_family_that_nobody_knows_is_refused_with_a_guess(tmp_path) -> None:
    with pytest.raises(UnsupportedRuntimeError) as refused:
        await Provider().provide(spec_of(tmp_path, "litrt"))
    assert refused.value.code == "runtime-unknown"
    assert "litert" in (refused.value.hint or "")


async def test_a_root_that_cannot_be_written_to_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnsupportedRuntimeError, match="cannot be used"):
        await Provider().provide(spec_of(tmp_path / "file" / "root"))


async def test_a_python_that_no_pip_is_for_falls(tmp_path) -> None:
    ancient = Interpreter("/usr/bin/python3.1", (3, 1, 0), "x86_64", ensurepip=False)
    candidate = Candidate(FAMILIES["opencv"][0], ("numpy",), ancient, WheelSource.WHEELHOUSE)
    with pytest.raises(CandidateFailedError, match="is not for it, and it has none of its own"):
        await build(candidate, tmp_path / "x", wheelhouse=[], lock=0, report=print)


def test_every_family_of_the_table_has_a_proof() -> None:
    from agent.inference.environments import proof  # noqa: PLC0415

    assert set(proof._MODELS) == set(FAMILIES)
