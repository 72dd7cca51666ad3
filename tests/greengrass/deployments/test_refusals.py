"""What is not taken: reported under its own id, and what it costs is bounded."""

from __future__ import annotations

import json
import logging
import sqlite3
from typing import Any

import pytest

from agent.greengrass.deployments import refusals
from agent.greengrass.deployments.document import MAX_BYTES
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import Ledger, RefusedDocument
from agent.greengrass.deployments.outcome import DetailedStatus
from agent.greengrass.deployments.refusals import BoundedLog, Inbox, of_refused
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.requesters import Arrival, Requester
from agent.greengrass.errors import DeploymentRejectedError
from tests.greengrass.deployments.test_ordering import SIGNED_ONLY, live, now_ms, sent, signed, taken, version
from tests.greengrass.deployments.test_service import Device, running

UNSIGNED = {"deploymentId": "mine", "components": {}}


def arrived(payload: bytes, **more: Any) -> Arrival:
    return Arrival(Origin.TOPIC, payload, Requester(), **more)


def retained(device: Device, identity: str) -> dict[str, Any]:
    """What the broker keeps of a deployment."""
    message = device.bus.retained.get(f"verge/t/deployments/{identity}")
    return json.loads(message.payload) if message else {}


async def test_a_refused_document_is_reported_under_its_own_id_and_the_next_one_does_not_overwrite_it(tmp_path) -> None:
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        for identity in ("one", "two"):
            outcome = await sent(device, json.dumps(UNSIGNED | {"deploymentId": identity}).encode())
            assert outcome.status is DetailedStatus.REJECTED
        unreadable = [await sent(device, payload) for payload in (b"{", b"}")]
        assert {one.status for one in unreadable} == {DetailedStatus.REJECTED}
        assert [retained(device, identity)["status"] for identity in ("one", "two")] == ["REJECTED", "REJECTED"]
        made_up = [topic for topic in device.bus.retained if topic.rpartition("/")[2].startswith("refused-")]
        assert len(made_up) == 2


@pytest.mark.parametrize("document", [b'{"operation": "reboot"}', b"no json", b'{"steps": []}', b'{"components": 7}'])
async def test_a_refused_job_is_in_the_log_and_on_a_topic_of_its_own(tmp_path, caplog, document) -> None:
    async with running(tmp_path) as device:
        outcome = await sent(device, document, origin=Origin.JOB, key="job-7/1")
        assert outcome.status in {DetailedStatus.REJECTED, DetailedStatus.FAILED_NO_STATE_CHANGE}
        assert retained(device, "job-7")["failureCause"] == outcome.text
        assert "deployment job-7 (IOT_JOBS) is not taken" in caplog.text


async def test_a_stranger_does_not_overwrite_what_is_retained_of_a_deployment_that_was_taken(tmp_path) -> None:
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        document = signed(version("1.0.0", now_ms(), deploymentId="mine"))
        await taken(device, document)
        assert (await sent(device, json.dumps(UNSIGNED).encode())).status is DetailedStatus.REJECTED
        assert (await sent(device, document)).status is DetailedStatus.REJECTED
        assert retained(device, "mine")["status"] == "SUCCEEDED"


async def test_a_stranger_does_not_overwrite_it_with_another_id_that_has_the_same_topic_either(tmp_path) -> None:
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, signed(version("1.0.0", now_ms(), deploymentId="night_1")))
        for number in range(102):  # the first makes room for the last
            identity = "night/1" if number == 0 else f"junk-{number}"
            await sent(device, json.dumps(UNSIGNED | {"deploymentId": identity}).encode())
        assert retained(device, "night_1").get("status") == "SUCCEEDED"


async def test_of_refused_documents_nothing_but_digest_size_and_reason_is_kept_and_only_of_the_last_hundred(
    tmp_path,
) -> None:
    filler = "x" * (1 << 20)
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, signed(version("1.0.0", now_ms(), deploymentId="mine")))
        for number in range(120):
            payload = json.dumps(
                {"deploymentId": f"refused {number}", "filler": filler if number < 20 else ""}
            ).encode()
            assert (await sent(device, payload)).status is DetailedStatus.REJECTED
        files = Layout(tmp_path).ledger.parent
        assert sum(file.stat().st_size for file in files.iterdir()) < 3_000_000
        assert [entry.id for entry in await device.ledger.entries(100)] == ["mine"]
        kept = [topic for topic in device.bus.retained if "refused" in topic]
        assert (len(kept), retained(device, "refused 0"), retained(device, "refused 119")["status"]) == (
            100, {}, "REJECTED",
        )  # fmt: skip
        assert live(device) == "1.0.0"


async def test_a_document_that_is_too_large_is_refused_on_arrival_and_let_go_of(tmp_path) -> None:
    inbox = Inbox()
    for number in range(refusals._INBOX):
        inbox.put(arrived(b"%d" % number + b" " * (MAX_BYTES + 1)))
    arrival, large = await inbox.get()
    assert large is not None
    assert (arrival.payload, large.size) == (b"", MAX_BYTES + 2)
    async with running(tmp_path) as device:
        outcome = await sent(device, b'{"deploymentId": "x", "filler": "' + b" " * MAX_BYTES + b'"}')
        assert "DEPLOYMENT_DOCUMENT_SIZE_EXCEEDED" in outcome.stack
        assert "10485760 is the most" in outcome.cause
        assert outcome.hint


async def test_the_inbox_is_bounded_in_bytes_together() -> None:
    inbox = Inbox()
    large = b" " * (MAX_BYTES - 1)
    inbox.put(arrived(large))
    inbox.put(arrived(large))
    with pytest.raises(DeploymentRejectedError, match="wait already"):
        inbox.put(arrived(large))
    await inbox.get()
    inbox.put(arrived(large))


async def test_lines_about_refused_documents_are_so_many_a_minute_and_then_counted(caplog) -> None:
    bounded = BoundedLog()
    for number in range(refusals._LINES + 30):
        bounded.warning(f"line {number}\nforged")
    bounded.close()
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert lines[: refusals._LINES] == [f"line {number}?forged" for number in range(refusals._LINES)]
    assert lines[refusals._LINES :] == ["30 more documents were refused within a minute"]


async def test_a_retained_document_that_is_refused_is_told_once(tmp_path, caplog) -> None:
    payload = json.dumps(UNSIGNED).encode()
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await sent(device, payload, retained=True)
        device.service.submit(arrived(payload, retained=True))
        await sent(device, b"another")
        assert caplog.text.count("deployment mine (TOPIC) is not taken") == 1


@pytest.mark.parametrize(
    ("payload", "identity"),
    [
        (b'{"deploymentId": "mine"}', "mine"),
        (b'{"requestId": "mine"}', "mine"),
        (signed({"deploymentId": "mine"}), "mine"),
        (b'{"deploymentId": "get"}', "refused-"),
        (b'{"deploymentId": "a+b"}', "refused-"),
        ('{"deploymentId": "a\u202eb"}'.encode(), "refused-"),
        (b'{"deploymentId": 7}', "refused-"),
        (b'{"a": ' * 100_000, "refused-"),
        (b"\xff", "refused-"),
        (b"", "refused-"),
    ],
)
def test_the_id_of_a_refused_document_is_its_own_where_that_can_be_read(payload, identity) -> None:
    assert of_refused(arrived(payload)).id.startswith(identity)


async def test_an_upgraded_ledger_lets_go_of_the_large_documents_that_it_kept(tmp_path) -> None:
    path = tmp_path / "ledger.db"
    async with Ledger(path) as ledger:
        await ledger.receive("old", "TOPIC", b"x" * 30_000_000, 1)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE deployments SET outcome = x'7b7d'")
    database.close()
    async with Ledger(path) as ledger:
        (entry,) = await ledger.entries()
        assert (entry.id, entry.document) == ("old", b"")
    assert path.stat().st_size < 1_000_000


async def test_what_is_refused_twice_has_one_row(tmp_path) -> None:
    one = RefusedDocument("mine", "TOPIC", "digest", 7)
    async with Ledger(tmp_path / "ledger.db") as ledger:
        assert await ledger.refuse(one, 1, b"{}") == (False, [])
        assert await ledger.refuse(one, 2, b"{}") == (True, [])
        assert not await ledger.took("mine")
