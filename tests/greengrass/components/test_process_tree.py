"""Whose a process is, how it is ended, and what is done about those an agent that was killed left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agent.greengrass.components import process_tree
from agent.greengrass.components.process_tree import ProcessId
from agent.greengrass.components.record import Record, end_survivors
from tests.support.until import until, until_sync

AGENT = """
import asyncio, sys
from pathlib import Path
from agent.greengrass.components.spec import ComponentSpec, RunAs
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.recipes.lifecycle import parse

async def main(root):
    run = "echo $$ >> pids; (setsid sh -c 'echo $$ >> pids; sleep 1000' &); sleep 1000"
    spec = ComponentSpec("a", "1.0.0", parse({"Run": run}), root / "work")
    async with Supervisor(run=root / "run", logs=root / "logs", env={}, run_as=RunAs("0")) as supervisor:
        await supervisor.apply({"a": spec})
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_its_pid_and_its_start(sleeper):
    known = process_tree.process_id(sleeper.pid)
    assert process_tree.members({known}) == {known}
    assert process_tree.members({replace(known, started=known.started + 1)}) == set()


def test_the_family_is_the_session_the_children_and_whoever_carries_the_token():
    env = {**os.environ, "SVCUID": "TOKEN-OF-THIS-TEST"}
    script = "sleep 1000 & setsid sleep 1000 & exec sleep 1000"
    leader = subprocess.Popen(["sh", "-c", script], env=env, start_new_session=True)
    try:
        until_sync(lambda: len(process_tree.members((), "TOKEN-OF-THIS-TEST")) == 3)
        assert leader.pid in {pid.pid for pid in process_tree.members((), "TOKEN-OF-THIS-TEST")}
        assert process_tree.members({process_tree.process_id(leader.pid)}) == process_tree.members(
            (), "TOKEN-OF-THIS-TEST"
        )
        assert process_tree.members((), "TOKEN-OF-THIS") == set()
    finally:
        for each in process_tree.members((), "TOKEN-OF-THIS-TEST"):
            os.kill(each.pid, signal.SIGKILL)
        leader.wait()


def test_the_agent_is_nobodys_kin():
    assert process_tree.members({process_tree.process_id(os.getpid())}, listed={os.getpid()}) == set()


async def test_what_ignores_sigterm_is_killed():
    deaf = await asyncio.create_subprocess_exec(
        "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1000; done",
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    await deaf.stdout.readline()
    known = {process_tree.process_id(deaf.pid)}
    assert await process_tree.end(lambda sessions: process_tree.members(known, sessions=sessions), term_s=0.1) == set()
    assert await deaf.wait() == -signal.SIGKILL
    deaf._transport.close()


async def test_a_session_that_goes_on_having_children_while_it_is_killed_leaves_none(alive):
    for _ in range(10):
        fertile = await asyncio.create_subprocess_exec(
            "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done",
            stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        await fertile.stdout.readline()
        known = {process_tree.process_id(fertile.pid)}
        await process_tree.end(lambda sessions, known=known: process_tree.members(known, sessions=sessions), term_s=0.0)
        await fertile.wait()
        fertile._transport.close()
        assert process_tree.left_behind(fertile.pid) == set()


async def test_what_listens_to_sigterm_may_take_its_time():
    polite = await asyncio.create_subprocess_exec(
        "sh", "-c", "trap 'sleep 0.2; exit 7' TERM; echo ready; while :; do sleep 0.05; done",
        stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    await polite.stdout.readline()
    known = {process_tree.process_id(polite.pid)}
    assert await process_tree.end(lambda sessions: process_tree.members(known, sessions=sessions)) == set()
    assert await polite.wait() == 7
    polite._transport.close()


# -- records --------------------------------------------------------------------------------------------------------


async def test_a_record_of_a_stranger_ends_nobody(tmp_path, sleeper):
    known = process_tree.process_id(sleeper.pid)
    stranger = asdict(replace(known, started=known.started - 1))
    content = {"boot": process_tree.boot(), "token": "NOBODY-HAS-IT", "leaders": [stranger]}
    (tmp_path / "a.processes.json").write_text(json.dumps(content))
    assert await end_survivors(tmp_path) == []
    assert sleeper.poll() is None
    assert list(tmp_path.iterdir()) == []


async def test_a_record_from_before_a_reboot_ends_nobody(tmp_path, sleeper):
    content = {"boot": "another", "token": "", "leaders": [asdict(process_tree.process_id(sleeper.pid))]}
    (tmp_path / "a.processes.json").write_text(json.dumps(content))
    assert await end_survivors(tmp_path) == []
    assert sleeper.poll() is None


async def test_a_record_that_cannot_be_read_is_dropped(tmp_path):
    (tmp_path / "a.processes.json").write_bytes(b"{")
    assert await end_survivors(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


async def test_a_record_ends_exactly_what_it_names(tmp_path, sleeper):
    Record(tmp_path, "a", "NOBODY-HAS-IT").add(process_tree.process_id(sleeper.pid))
    assert await end_survivors(tmp_path) == ["a"]
    assert sleeper.wait() == -signal.SIGTERM


def test_a_record_is_there_only_while_there_may_be_processes(tmp_path):
    record = Record(tmp_path, "a", "TOKEN")
    record.open()
    assert [path.name for path in tmp_path.iterdir()] == ["a.processes.json"]
    record.add(ProcessId(1, 1))
    record.clear()
    assert list(tmp_path.iterdir()) == []


async def test_an_agent_killed_at_once_and_started_again_has_one_copy_running(tmp_path, alive):
    def start() -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", AGENT, str(tmp_path)], cwd=Path(__file__).parents[3])

    def pids() -> list[int]:
        path = tmp_path / "work/pids"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    first = start()
    await until(lambda: len(pids()) == 2)
    old = pids()
    first.kill()
    first.wait()
    assert all(alive(pid) for pid in old)
    second = start()
    try:
        await until(lambda: len(pids()) == 4)
        assert [alive(pid) for pid in pids()] == [False, False, True, True]
    finally:
        second.kill()
        second.wait()
        assert await end_survivors(tmp_path / "run") == ["a"]
    assert not any(alive(pid) for pid in pids())


async def test_without_descriptors_nobody_counts_as_gone_and_the_end_comes_once_there_are_some(sleeper):
    known = {process_tree.process_id(sleeper.pid)}
    await asyncio.to_thread(int)  # the thread that looks is there before
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, usual[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        ending = asyncio.create_task(process_tree.end(lambda sessions: process_tree.members(known, sessions=sessions)))
        done, _ = await asyncio.wait({ending}, timeout=0.5)
        assert not done
        assert sleeper.poll() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
        for descriptor in taken:
            os.close(descriptor)
    assert await ending == set()
    assert sleeper.wait(10) == -signal.SIGTERM
