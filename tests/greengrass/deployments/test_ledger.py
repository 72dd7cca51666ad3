"""The ledger says after a crash what it said before, and changes the active set in one place."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import Ledger, LedgerError, LedgerReader, Step
from agent.greengrass.deployments.request import Origin


async def test_a_deployment_is_followed_step_by_step_to_its_end(tmp_path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        seq = await ledger.receive("d1", "TOPIC", b"{}", 5)
        await ledger.step(seq, Step.STAGED)
        (entry,) = await ledger.entries()
        assert (entry.id, entry.source, entry.document, entry.received_ms) == ("d1", "TOPIC", b"{}", 5)
        assert (entry.step, entry.outcome, entry.reported, entry.attempts) == (Step.STAGED, None, False, 1)
        await ledger.end(seq, b"why")
        (entry,) = await ledger.unreported()
        assert (entry.step, entry.outcome) == (Step.ENDED, b"why")
        await ledger.reported(seq)
        assert await ledger.unreported() == []


async def test_committing_makes_the_set_active_and_keeps_the_one_before_it(tmp_path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        assert await ledger.active() == (None, None)
        for number in range(3):
            seq = await ledger.receive(f"d{number}", "TOPIC", b"{}", 0)
            await ledger.commit(seq, b"set %d" % number, b"done")
        assert await ledger.active() == (b"set 2", b"set 1")
    database = sqlite3.connect(tmp_path / "ledger.db")
    assert database.execute("SELECT count(*) FROM sets").fetchone() == (2,)
    database.close()


async def test_a_deployment_that_ends_otherwise_leaves_the_active_set_alone(tmp_path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        await ledger.commit(await ledger.receive("a", "TOPIC", b"{}", 0), b"old", b"")
        await ledger.end(await ledger.receive("b", "TOPIC", b"{}", 0), b"failed")
        assert (await ledger.active())[0] == b"old"


async def test_an_interrupted_deployment_counts_its_attempts(tmp_path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        seq = await ledger.receive("a", "TOPIC", b"{}", 0)
        await ledger.step(seq, Step.STAGED)
        assert await ledger.begin_anew(seq) == 2
        assert [(entry.step, entry.attempts) for entry in await ledger.unreported()] == [(Step.RECEIVED, 2)]


async def test_numbers_are_kept(tmp_path) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        assert await ledger.number("sequence") == 0
        await ledger.number("sequence", 7)
    async with Ledger(tmp_path / "ledger.db") as ledger:
        assert await ledger.number("sequence") == 7


async def test_only_its_owner_reads_it_and_old_entries_go(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("agent.greengrass.deployments.database._KEEP", 3)
    async with Ledger(tmp_path / "ledger.db") as ledger:
        for number in range(6):
            seq = await ledger.receive(f"d{number}", "TOPIC", b"{}", 0)
            await ledger.end(seq, b"")
            await ledger.reported(seq)
        assert len(await ledger.entries(100)) <= 4
    assert (tmp_path / "ledger.db").stat().st_mode & 0o077 == 0


WRITER = """
import asyncio, sys
from pathlib import Path
from agent.greengrass.deployments.ledger import Ledger, Step
async def main():
    async with Ledger(Path(sys.argv[1])) as ledger:
        number = 0
        while True:
            seq = await ledger.receive(f"d{number}", "TOPIC", b"{}", number)
            await ledger.step(seq, Step.ACTIVATING)
            await ledger.commit(seq, b"%d" % number, b"%d" % number)
            print(number, flush=True)
            number += 1
asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 5, 17])
async def test_what_was_committed_before_a_kill_is_there_and_whole_after_it(tmp_path, lines) -> None:
    path = tmp_path / "ledger.db"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(lines)][-1]
        os.kill(process.pid, signal.SIGKILL)
    async with Ledger(path) as ledger:
        content, _ = await ledger.active()
        assert content is not None
        last = int(content)
        assert last >= told
        (latest,) = [entry for entry in await ledger.entries(3) if entry.id == f"d{last}"]
        assert (latest.step, latest.outcome) == (Step.COMMITTED, content)
        for entry in await ledger.unreported():
            assert (entry.step is Step.COMMITTED) == (int(entry.id[1:]) <= last)


async def test_a_command_reads_the_ledger_beside_a_running_agent_and_without_one(tmp_path) -> None:
    path = Layout(tmp_path).ledger
    async with Ledger(path) as ledger:
        await ledger.commit(await ledger.receive("a", "TOPIC", b"{}", 0), b"set", b"done")
        with LedgerReader([tmp_path]) as reader:
            assert [(entry.id, entry.origin, entry.outcome) for entry in reader.entries()] == [
                ("a", Origin.TOPIC, b"done")
            ]
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with LedgerReader([tmp_path / "nothing", tmp_path]) as reader:
        assert reader.active() == (b"set", None)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_where_there_is_no_ledger_a_command_says_where_it_looked_and_makes_none(tmp_path) -> None:
    with pytest.raises(LedgerError, match=r"ledger\.db"), LedgerReader([tmp_path]):
        raise AssertionError("there is none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "origin", "job"),
    [
        ("IOT_JOBS/job-7/2", Origin.JOB, "job-7"),
        ("SHADOW/arn:a/b:7", Origin.SHADOW, None),
        ("TOPIC", Origin.TOPIC, None),
    ],
)
async def test_an_entry_knows_where_its_document_came_from_and_which_job_brought_it(
    tmp_path, source, origin, job
) -> None:
    async with Ledger(tmp_path / "ledger.db") as ledger:
        await ledger.receive("a", source, b"{}", 0)
        (entry,) = await ledger.entries()
    assert (entry.origin, entry.job_id) == (origin, job)
