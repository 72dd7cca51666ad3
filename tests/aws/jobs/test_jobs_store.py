"""What the service was told is what it finds again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest

from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.queue import JobQueue
from agent.aws.jobs.service.repository import JobRepository, Mailbox
from agent.aws.jobs.service.rules import ExecutionChange
from agent.aws.jobs.service.store import JobStore
from agent.errors import ConfigError
from tests.aws.jobs.two_ends import spec

ONE = Mailbox("one", "")


def lived(queue: JobQueue) -> None:
    """A bit of everything."""
    queue.change_group("hall", 1, add=["one", "two"])
    rollout = {"maximumPerMinute": 1}
    queue.create(spec("j0", "one"), 1)
    queue.create(spec("j1", "group:hall", jobExecutionsRolloutConfig=rollout), 1)
    queue.create(spec("j2", "one", timeoutConfig={"inProgressTimeoutInMinutes": 1}), 2)
    queue.update(ONE, "j1", ExecutionChange(Status.SUCCEEDED, {"a": "ü"}), 3)
    queue.update(ONE, "j2", ExecutionChange(Status.IN_PROGRESS), 4)
    queue.delete("j0", force=True)


def facts(queue: JobQueue) -> tuple[object, ...]:
    repository = queue.repository
    runs = sorted((name, run.job, dict(run.executions), list(run.waiting)) for name, run in repository.runs.items())
    return runs, repository.groups, repository.pending(ONE), repository.pending(Mailbox("two", ""))


def test_a_restarted_queue_goes_on_where_it_was(tmp_path):
    queue = JobQueue()
    with JobStore(tmp_path) as store:
        lived(queue)
        store.write(queue.repository.take_changes())
    with JobStore(tmp_path) as store:
        again = JobQueue(JobRepository(store.read()))
    assert facts(again) == facts(queue)
    for each in (queue, again):
        each.tick(64)
    assert again.find(ONE, "j2").status is Status.TIMED_OUT
    assert again.find(Mailbox("two", ""), "j1").status is Status.QUEUED
    assert facts(again) == facts(queue)


def test_changes_are_written_whole_or_not_at_all(tmp_path):
    queue = JobQueue()
    with JobStore(tmp_path) as store:
        lived(queue)
        store._connection.execute("DROP TABLE groups")
        with pytest.raises(sqlite3.Error):
            store.write(queue.repository.take_changes())
        assert store._connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


OPEN = """
import sys, pathlib
from agent.aws.jobs.service.store import JobStore
JobStore(pathlib.Path(sys.argv[1])).__enter__()
"""


def test_a_second_service_with_the_same_memory_is_refused(tmp_path):
    with JobStore(tmp_path):
        second = subprocess.run(
            [sys.executable, "-c", OPEN, str(tmp_path)], capture_output=True, text=True, check=False
        )
    assert "another service may be using it" in second.stderr


def test_a_file_that_is_no_store_or_another_versions_is_refused(tmp_path):
    with JobStore(tmp_path) as store:
        store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="another version"), JobStore(tmp_path):
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "jobs.sqlite3").write_bytes(b"x" * 5000)
    with pytest.raises(ConfigError, match="cannot be used"), JobStore(tmp_path / "other"):
        pass
