"""``verge jobs`` as a person uses it, on a real broker with a real service."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from agent.aws.jobs.client import JobsClient
from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.aws.jobs.topics import JobTopics
from agent.cli.jobs import command
from agent.errors import VergeError
from agent.mqtt.client import MqttTransport
from tests.support.broker import Broker
from tests.support.commands import own_logging
from tests.support.inbox import connected, subscribed


@contextmanager
def in_background(main):
    """Run ``main(ready, stop)`` in a thread with a loop of its own until the block is left."""
    ready, ends = threading.Event(), {}

    async def run() -> None:
        ends["stop"], ends["loop"] = asyncio.Event(), asyncio.get_running_loop()
        await main(ready.set, ends["stop"])

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        ends["loop"].call_soon_threadsafe(ends["stop"].set)
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A broker of its own with a service, and a device ``worker`` whose jobs succeed, but for those called ``bad…``."""
    with Broker() as broker:

        async def main(ready, stop):
            def work(job):
                client.report(job, Status.FAILED if job.job_id.startswith("bad") else Status.SUCCEEDED, {"by": "hand"})

            with JobStore(tmp_path_factory.mktemp("jobs")) as store:
                async with MqttTransport("all", broker.options) as transport:
                    await connected(transport)
                    client = JobsClient(transport, JobTopics("worker"), on_job=work, on_cancel=lambda _: None)
                    async with JobsService(transport, store), client:
                        await subscribed(transport, "tests/command")
                        ready()
                        await stop.wait()

        with in_background(main):
            yield broker


@pytest.fixture
def verge_jobs(served):
    """Run a command; its exit status and output."""

    def run(*arguments, status=0):
        name, *rest = arguments
        broker = ["--broker", f"mqtt://127.0.0.1:{served.port}"]
        with own_logging():
            result = CliRunner().invoke(command, [name, *broker, *rest], catch_exceptions=False)
        assert result.exit_code == status, result.output
        return result.output

    return run


def test_a_job_is_made_waited_for_shown_and_forgotten(verge_jobs):
    told = verge_jobs("create", "--targets", "worker", "--document", '{"a": 1}', "--id", "good", "--wait")
    assert "COMPLETED" in told
    assert "1 succeeded" in told
    assert "by=hand" in told
    assert "good" in verge_jobs("list")
    assert json.loads(verge_jobs("describe", "good", "--json"))["document"] == {"a": 1}
    assert "SUCCEEDED" in verge_jobs("executions", "good")
    assert "deleted" in verge_jobs("delete", "good")
    assert "good" not in verge_jobs("list")


def test_a_job_that_did_not_succeed_everywhere_ends_the_wait_with_status_one(verge_jobs, tmp_path):
    (tmp_path / "document.json").write_text('{"a": 1}')
    arguments = ["--targets", "worker", "--document", str(tmp_path / "document.json"), "--id", "bad", "--retries", "1"]
    told = json.loads(verge_jobs("create", *arguments, "--wait", "--json", status=1))
    assert [one["status"] for one in told["executions"]] == ["FAILED", "FAILED"]


def test_the_words_of_create_become_the_settings_of_the_job(verge_jobs):
    words = "--rate 5 --increase 2:succeeded:10 --max-rate 100 --abort failed:20%:5 --timeout 90s --retries timed_out:3"
    told = verge_jobs(
        "create", "--targets", "a,group:nobody", "--document", "{}", "--continuous", "--json", *words.split()
    )
    job = json.loads(told)
    assert job["targets"] == ["a", "group:nobody"]
    assert job["targetSelection"] == "CONTINUOUS"
    assert job["jobExecutionsRolloutConfig"] == {
        "maximumPerMinute": 100,
        "exponentialRate": {
            "baseRatePerMinute": 5,
            "incrementFactor": 2.0,
            "rateIncreaseCriteria": {"numberOfSucceededThings": 10},
        },
    }
    assert job["abortConfig"]["criteriaList"][0]["thresholdPercentage"] == 20.0
    assert job["timeoutConfig"] == {"inProgressTimeoutInMinutes": 1.5}
    assert job["jobExecutionsRetryConfig"]["criteriaList"] == [{"failureType": "TIMED_OUT", "numberOfRetries": 3}]
    assert "canceled" in verge_jobs("cancel", job["jobId"])


def test_groups_are_filled_shown_and_emptied(verge_jobs):
    assert "one, two" in verge_jobs("groups", "hall", "--add", "one,two")
    assert json.loads(verge_jobs("groups", "--json"))["hall"] == ["one", "two"]
    assert json.loads(verge_jobs("groups", "hall", "--remove", "one,two", "--json")) == {"hall": []}


def test_one_thing_can_be_cancelled(verge_jobs):
    verge_jobs("create", "--targets", "away,gone", "--document", "{}", "--id", "c1")
    assert "CANCELED" in verge_jobs("cancel", "c1", "--thing", "away")
    assert json.loads(verge_jobs("describe", "c1", "--json"))["processDetails"]["QUEUED"] == 1


def test_what_the_service_refuses_is_an_error_with_its_code(verge_jobs):
    with pytest.raises(VergeError) as refused:
        verge_jobs("describe", "nope")
    assert refused.value.code == "ResourceNotFound"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--document", "{"],
        ["--document", "no-such-file"],
        ["--document", "{}", "--timeout", "soon"],
        ["--document", "{}", "--abort", "failed"],
        ["--document", "{}", "--increase", "2:failed:1", "--rate", "1"],
        ["--document", "{}", "--increase", "2:notified:1"],
        ["--document", "{}", "--retries", "often"],
        ["--document", "{}", "--continuous", "--wait"],
        ["--document", "{}", "--broker", "http://127.0.0.1"],
    ],
)
def test_words_that_mean_nothing_are_explained(verge_jobs, wrong):
    assert "Error: " in verge_jobs("create", "--targets", "a", *wrong, status=2)


@pytest.mark.parametrize("name", ["create", "serve", "cancel", "groups"])
def test_the_help_shows_its_examples_line_by_line(name):
    shown = CliRunner().invoke(command, [name, "--help"]).output
    lines = [line for line in shown.splitlines() if line.lstrip().startswith("verge jobs ")]
    assert len(lines) >= 2
    assert "\\b" not in shown
