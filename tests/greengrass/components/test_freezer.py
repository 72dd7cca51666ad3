import asyncio
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from agent.greengrass.components import freezer as freezers
from agent.greengrass.components import process_tree
from agent.greengrass.components.freezer import LegacyFreezer, SignalFreezer, choose, let_go
from agent.greengrass.components.limits import Rlimits
from agent.greengrass.components.states import State
from tests.support.until import until, until_sync

FORKING = "while :; do echo >> ticks; sleep 0.01; done"
UNTIL_V1 = "needs root and a cgroup v1 freezer: mount -t cgroup -o freezer none DIR, and run the tests as root"


def legacy():
    chosen = choose(Rlimits(), "/somebody")
    return isinstance(chosen, LegacyFreezer)


@pytest.fixture(params=["signal", "legacy"])
def freezer(request, tmp_path):
    if request.param == "signal":
        return SignalFreezer()
    if not legacy():
        pytest.skip(UNTIL_V1)
    return choose(Rlimits(), str(tmp_path))


@pytest.fixture
def script(tmp_path):
    process = subprocess.Popen(["sh", "-c", FORKING], cwd=tmp_path, start_new_session=True)
    leader = process_tree.process_id(process.pid)
    yield lambda sessions=(): process_tree.members({leader}, sessions=sessions)
    process.kill()
    process.wait()


def ticks(tmp_path: Path) -> int:
    file = tmp_path / "ticks"
    return file.stat().st_size if file.exists() else 0


def standing(tmp_path: Path, seconds: float = 0.3) -> bool:
    """Whether nothing happens for so long; a running one ticks every hundredth of a second."""
    before = ticks(tmp_path)
    time.sleep(seconds)
    return ticks(tmp_path) == before


def test_a_script_that_forks_all_the_time_stands_still_and_goes_on(freezer, script, tmp_path):
    until_sync(lambda: ticks(tmp_path) > 3)
    for _ in range(3):
        freezer.freeze("com.example.A", script)
        assert standing(tmp_path)
        freezer.thaw("com.example.A", script)
        before = ticks(tmp_path)
        until_sync(lambda before=before: ticks(tmp_path) > before)


def test_what_cannot_be_stopped_as_a_whole_goes_on_as_a_whole(script, tmp_path, monkeypatch):
    monkeypatch.setattr(freezers, "_PATIENCE_S", 0.0)
    until_sync(lambda: ticks(tmp_path) > 3)
    with pytest.raises(TimeoutError, match="faster than they can be stopped"):
        SignalFreezer().freeze("com.example.A", script)
    before = ticks(tmp_path)
    until_sync(lambda: ticks(tmp_path) > before)


async def test_a_component_is_paused_to_the_end_when_whoever_asked_has_gone(device, becomes, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    class Slow(SignalFreezer):
        def freeze(self, name, find):
            begun.set()
            go_on.wait(30)
            super().freeze(name, find)

    monkeypatch.setattr(freezers, "choose", lambda _enforcer, _owner: Slow())
    async with device.supervisor() as supervisor:
        await supervisor.apply({"a": device.spec("a", Run=FORKING)})
        await becomes(supervisor, "a", State.RUNNING)
        asked = asyncio.create_task(supervisor.pause("a"))
        await until(begun.is_set)
        asked.cancel()
        await asyncio.wait((asked,))
        go_on.set()
        await until(lambda: "paused" in supervisor.states()["a"].note)
        await supervisor.resume("a")
        before = ticks(device.root / "work" / "a")
        await until(lambda: ticks(device.root / "work" / "a") > before)


def test_what_an_earlier_agent_left_frozen_is_let_go_on(script, tmp_path):
    if not legacy():
        pytest.skip(UNTIL_V1)
    until_sync(lambda: ticks(tmp_path) > 3)
    choose(Rlimits(), str(tmp_path)).freeze("com.example.A", script)
    let_go("/another agent's folder")
    assert standing(tmp_path)
    let_go(str(tmp_path))
    before = ticks(tmp_path)
    until_sync(lambda: ticks(tmp_path) > before)


@pytest.mark.parametrize("kind", [SignalFreezer, None])
async def test_what_stands_still_can_be_ended(kind, script, tmp_path):
    freezer = SignalFreezer() if kind else choose(Rlimits(), str(tmp_path))
    until_sync(lambda: ticks(tmp_path) > 3)
    freezer.freeze("com.example.A", script)
    freezer.thaw("com.example.A", script)
    began = time.monotonic()
    assert await process_tree.end(script) == set()
    assert time.monotonic() - began < process_tree.TERM_S


async def test_who_stopped_itself_is_ended_without_waiting_for_the_kill(tmp_path):
    process = subprocess.Popen(["sh", "-c", "kill -STOP $$; sleep 1000"], start_new_session=True)
    leader = process_tree.process_id(process.pid)
    assert leader is not None
    until_sync(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    began = time.monotonic()
    assert await process_tree.end(lambda sessions: process_tree.members({leader}, sessions=sessions)) == set()
    assert time.monotonic() - began < process_tree.TERM_S
    process.wait()
    assert os.WIFSIGNALED(process.returncode) or process.returncode < 0
