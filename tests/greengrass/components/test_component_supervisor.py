"""The supervisor with real processes: brought to a target, kept in order, whatever they do."""

from __future__ import annotations

import asyncio
import random
import statistics
import time

import pytest

from agent.greengrass.components.errors import ComponentError
from agent.greengrass.components.spec import Change, Limits
from agent.greengrass.components.states import REINSTALL, RESTART, START, STOP, State, StatusCode
from agent.greengrass.components.supervisor import Settled
from tests.support.until import PATIENCE_S, until

FOREVER = "echo $$ > pid; exec sleep 1000"


def target(*specs):
    return {spec.name: spec for spec in specs}


# -- one component --------------------------------------------------------------------------------------------------


async def test_a_component_is_installed_run_and_stopped_by_its_scripts(device):
    spec = device.spec("a", Install="echo install", Run=FOREVER, Shutdown="echo shutdown")
    async with device.supervisor() as supervisor:
        assert await supervisor.apply(target(spec)) == {"a": Change.REINSTALL}
        assert await supervisor.settled(["a"], PATIENCE_S) == {"a": Settled.HEALTHY}
        assert supervisor.states()["a"].state is State.RUNNING
    log = device.log("a")
    assert "[INFO] a: stdout. install {serviceName=a, scriptName=services.a.lifecycle.Install.script}" in log
    assert log.index("install") < log.index("shutdown")


async def test_a_component_with_nothing_to_run_finishes(device):
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("model")))
        assert await supervisor.settled(["model"], PATIENCE_S) == {"model": Settled.HEALTHY}
        assert supervisor.states()["model"].state is State.FINISHED


async def test_run_that_exits_0_finishes_and_its_daemons_go_with_it(device, alive):
    spec = device.spec("a", Run="sleep 1000 & echo $! > daemon")
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(spec))
        await until(lambda: supervisor.states()["a"].state is State.FINISHED)
        assert not alive(int(device.file("a", "daemon")))


async def test_a_component_that_crashes_three_times_is_broken_with_its_exit_code(device):
    spec = device.spec("a", Run="echo x >> runs; exit 3", Recover="echo x >> recovers")
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(spec))
        assert await supervisor.settled(["a"], 10, steady_s=5) == {"a": Settled.BROKEN}
        status = supervisor.states()["a"]
        assert status.problem.code is StatusCode.RUN_ERROR
        assert status.problem.reason == "The Run script exited with code 3."
    assert (device.file("a", "runs"), device.file("a", "recovers")) == ("x\n" * 3, "x\n" * 2)


async def test_a_run_that_is_killed_says_by_which_signal(device):
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Run="kill -SEGV $$")))
        await supervisor.settled(["a"], 10, steady_s=5)
        assert supervisor.states()["a"].problem.reason == "The Run script was ended by SIGSEGV."


async def test_an_install_that_hangs_times_out_and_is_ended(device, alive):
    install = {"Install": {"Script": "echo $$ > pid; sleep 1000", "Timeout": "0.5"}}
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", steps=install)))
        await supervisor.settled(["a"], PATIENCE_S)
        status = supervisor.states()["a"]
        assert (status.state, status.problem.code) == (State.BROKEN, StatusCode.INSTALL_TIMEOUT)
        assert not alive(int(device.file("a", "pid")))


async def test_a_startup_that_is_not_done_in_time_is_killed(device, alive):
    startup = {"Startup": {"Script": "echo $$ > pid; sleep 1000", "Timeout": 0.5}}
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", steps=startup)))
        await supervisor.settled(["a"], PATIENCE_S)
        assert supervisor.states()["a"].problem.code is StatusCode.STARTUP_TIMEOUT
        await until(lambda: not alive(int(device.file("a", "pid"))))


async def test_a_run_with_a_timeout_is_ended_by_it(device, becomes):
    run = {"Run": {"Script": "sleep 1000", "Timeout": 0.1}}
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", steps=run)))
        await becomes(supervisor, "a", State.BROKEN)
        assert supervisor.states()["a"].problem.code is StatusCode.RUN_TIMEOUT


async def test_a_startup_that_reports_running_while_it_lives_is_running(device, becomes):
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Startup="sleep 1000")))
        await becomes(supervisor, "a", State.STARTING)
        assert supervisor.report("a", State.RUNNING)
        assert await supervisor.settled(["a"], PATIENCE_S) == {"a": Settled.HEALTHY}


async def test_reports_that_come_faster_than_they_are_heard_are_dropped(device):
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Run=FOREVER)))
        taken = [supervisor.report("a", State.RUNNING) for _ in range(100)]
        assert 0 < sum(taken) < 100


async def test_a_daemon_that_left_session_and_parents_dies_with_its_component(device, alive):
    startup = "setsid sh -c 'sleep 1000 & echo $! > daemon' &"
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Startup=startup)))
        await until(lambda: device.file("a", "daemon"))
        daemon = int(device.file("a", "daemon"))
        assert alive(daemon)
        supervisor.pursue("a", STOP)
        await until(lambda: supervisor.states()["a"].state is State.FINISHED)
        assert not alive(daemon)


async def test_a_component_that_prints_for_ever_costs_neither_the_disk_nor_the_loop(device):
    lags: list[float] = []
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Run="exec yes"), device.spec("b", Run=FOREVER)))
        assert await supervisor.settled(["a", "b"], PATIENCE_S) == {"a": Settled.HEALTHY, "b": Settled.HEALTHY}
        async with asyncio.timeout(PATIENCE_S):
            while not (device.root / "logs/a.log.1").exists():
                began = time.monotonic()
                await asyncio.sleep(0.01)
                lags.append(time.monotonic() - began - 0.01)
    assert statistics.median(lags) < 0.1  # a busy machine delays some turns, a busy loop delays all
    files = list((device.root / "logs").glob("a.log*"))
    assert all(file.stat().st_size <= 1024 * 1024 for file in files)


async def test_a_line_without_end_is_logged_in_pieces(device, becomes):
    run = "head -c 100000 /dev/zero | tr '\\0' x"
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Run=run)))
        await becomes(supervisor, "a", State.FINISHED)
    lines = device.log("a").splitlines()
    assert len(lines) == 13
    assert sum(line.count("x") for line in lines) == 100_000


async def test_leaving_kills_what_does_not_stop_in_time(device, alive):
    shutdown = {"Shutdown": {"Script": "sleep 1000", "Timeout": 1000}}
    async with device.supervisor(grace_s=0.2) as supervisor:
        await supervisor.apply(target(device.spec("a", Run=FOREVER, steps=shutdown)))
        await until(lambda: device.file("a", "pid"))
    assert not alive(int(device.file("a", "pid")))


async def test_the_listener_hears_every_state_in_order(device):
    heard = []
    async with device.supervisor() as supervisor:
        supervisor.watch(lambda status: heard.append(status.state))
        await supervisor.apply(target(device.spec("a", Run=FOREVER)))
        await supervisor.settled(["a"], PATIENCE_S)
    assert heard == ["NEW", "INSTALLED", "STARTING", "RUNNING", "STOPPING", "FINISHED"]


# -- several --------------------------------------------------------------------------------------------------------


async def test_dependencies_start_first_and_stop_last(device):
    log = device.root / "order"
    specs = [
        device.spec(name, hard=hard, Startup=f"echo +{name} >> {log}", Shutdown=f"echo -{name} >> {log}")
        for name, hard in (("top", ["middle"]), ("middle", ["base"]), ("base", []))
    ]
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(*specs))
        await supervisor.settled(["top"], PATIENCE_S)
    assert log.read_text().split() == ["+base", "+middle", "+top", "-top", "-middle", "-base"]


async def test_a_hard_dependency_that_fails_restarts_its_depender_and_a_soft_one_does_not(device, becomes):
    base = device.spec("base", Run=FOREVER)
    hard = device.spec("hard", hard=["base"], Run=f"echo x >> runs; {FOREVER}")
    soft = device.spec("soft", facts={"soft": frozenset({"base"})}, Run=f"echo x >> runs; {FOREVER}")
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(base, hard, soft))
        await until(lambda: device.file("hard", "runs") == device.file("soft", "runs") == "x\n")
        supervisor.report("base", State.ERRORED)
        await until(lambda: device.file("hard", "runs") == "x\nx\n")
        await supervisor.settled(["base", "hard", "soft"], PATIENCE_S)
        assert device.file("soft", "runs") == "x\n"


async def test_dependencies_in_a_circle_are_refused_and_nothing_has_changed(device):
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Run=FOREVER)))
        with pytest.raises(ComponentError) as refused:
            await supervisor.apply(target(device.spec("b", hard=["c"]), device.spec("c", hard=["b"])))
        assert refused.value.code == "dependency-circle"
        assert set(supervisor.states()) == {"a"}


# -- changes --------------------------------------------------------------------------------------------------------


async def test_what_did_not_change_or_only_in_its_shutdown_runs_on(device):
    run = f"rm -f pid; {FOREVER}"
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Run=run)))
        await until(lambda: device.file("a", "pid"))
        before = device.file("a", "pid")
        for spec in (device.spec("a", Run=run), device.spec("a", Run=run, Shutdown="echo new goodbye")):
            assert await supervisor.apply(target(spec)) == {"a": Change.NOTHING}
        assert device.file("a", "pid") == before
    assert "new goodbye" in device.log("a")


async def test_another_version_is_installed_and_the_old_one_stopped_by_its_own_scripts(device):
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Install="echo i1", Run=FOREVER, Shutdown="echo s1")))
        await supervisor.settled(["a"], PATIENCE_S)
        spec = device.spec("a", "2.0.0", Install="echo i2", Run=FOREVER, Shutdown="echo s2")
        assert await supervisor.apply(target(spec)) == {"a": Change.REINSTALL}
        assert await supervisor.settled(["a"], PATIENCE_S) == {"a": Settled.HEALTHY}
        assert supervisor.states()["a"].version == "2.0.0"
    said = [line.split("stdout. ")[1].split(" {")[0] for line in device.log("a").splitlines()]
    assert said == ["i1", "s1", "i2", "s2"]


async def test_a_changed_run_restarts_without_install(device):
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Install="echo install >> installs", Run=FOREVER)))
        await supervisor.settled(["a"], PATIENCE_S)
        changed = device.spec("a", Install="echo install >> installs", Run=f"touch changed; {FOREVER}")
        assert await supervisor.apply(target(changed)) == {"a": Change.RESTART}
        await until((device.root / "work/a/changed").exists)
        assert device.file("a", "installs") == "install\n"


async def test_a_broken_component_is_reinstalled_by_any_deployment(device):
    spec = device.spec("a", Install="test -e mended", Run=FOREVER)
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(spec))
        assert await supervisor.settled(["a"], PATIENCE_S) == {"a": Settled.BROKEN}
        (device.root / "work/a/mended").touch()
        await supervisor.apply(target(spec))
        assert await supervisor.settled(["a"], PATIENCE_S) == {"a": Settled.HEALTHY}


async def test_what_is_not_in_the_target_is_stopped_uninstalled_and_gone(device):
    told = []
    log = device.root / "order"
    base = device.spec("base", Run=FOREVER, Uninstall=f"echo base $GREENGRASS_COMPONENT_VERSION >> {log}")
    top = device.spec("top", hard=["base"], Run=FOREVER, Shutdown=f"echo top >> {log}")
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(base, top))
        await supervisor.settled(["top"], PATIENCE_S)
        supervisor.watch(lambda status: told.append((status.name, status.removed)))
        await supervisor.apply({})
        assert supervisor.states() == {}
    assert log.read_text().splitlines() == ["top", "base 1.0.0"]
    assert {("base", True), ("top", True)} <= set(told)


async def test_a_restart_gives_a_new_process_and_never_two(device, alive):
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Run=f"rm -f pid; {FOREVER}")))
        await until(lambda: device.file("a", "pid"))
        before = int(device.file("a", "pid"))
        for _ in range(3):
            supervisor.pursue("a", RESTART)
        assert await supervisor.settled(["a"], PATIENCE_S) == {"a": Settled.HEALTHY}
        assert not alive(before)


# -- limits and tumbling wishes ----------------------------------------------------------------------------------------


async def test_memory_is_limited_and_the_status_says_what_is_not(device):
    limits = Limits(memory_kb=100_000, cpus=0.5)
    run = "python3 -c 'bytearray(300_000_000)' || touch refused; sleep 1000"
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Run=run, facts={"limits": limits})))
        await until((device.root / "work/a/refused").exists)
        note = supervisor.states()["a"].note
        assert note == "" or "cpus is not limited" in note
        changed = device.spec("a", Run=run, facts={"limits": Limits()})
        assert await supervisor.apply(target(changed)) == {"a": Change.LIMITS}
        assert supervisor.states()["a"].note == ""


async def test_wishes_that_tumble_over_each_other_never_leave_two_processes(device, alive):
    chance = random.Random(7)
    run = "echo $$ >> pids; exec sleep 1000"
    async with device.supervisor() as supervisor:
        await supervisor.apply(target(device.spec("a", Install="sleep 0.01", Run=run)))
        for _ in range(40):
            supervisor.pursue("a", chance.choice([START, RESTART, REINSTALL, STOP]))
            await asyncio.sleep(chance.choice([0, 0, 0.005, 0.03]))
            assert _living(device, alive) <= 1
        supervisor.pursue("a", START)
        assert await supervisor.settled(["a"], PATIENCE_S) == {"a": Settled.HEALTHY}
        await until(lambda: _living(device, alive) == 1)
    assert _living(device, alive) == 0


def _living(device, alive) -> int:
    return sum(alive(int(pid)) for pid in device.file("a", "pids").split())
