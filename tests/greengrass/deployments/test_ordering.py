"""A service and its record: what is taken, what is stale, and what neither a restart nor a damaged ledger changes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.cli.signing import PrivateKey, seal
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.requesters import Arrival, Requester
from agent.greengrass.trust.keylist import KeyList
from agent.greengrass.trust.policy import Link, LinkKind, TrustPolicy
from tests.greengrass.deployments.test_service import Device, Waiting, running, scripts

KEY = PrivateKey(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "line 3")
SIGNED_ONLY = TrustPolicy(Link(LinkKind.LOCAL), "signed", KeyList.configured({KEY.public.id: KEY.public}))
DAY_MS = 24 * 3600 * 1000
STALE = ("DEPLOYMENT_REJECTED", "REJECTED_STALE_DEPLOYMENT")


def now_ms() -> int:
    return int(time.time() * 1e3)


def version(number: str, at: int | None = None, **more: Any) -> dict[str, Any]:
    """A document that brings one component in this version."""
    dated = {} if at is None else {"creationTimestamp": at}
    return scripts(number, Install="exit 0") | dated | more


def signed(document: dict[str, Any]) -> bytes:
    return seal(json.dumps(document).encode(), KEY)


async def sent(
    device: Device, payload: bytes, origin: Origin = Origin.TOPIC, key: str = "", *, retained: bool = False
) -> Outcome:
    """The end of a document that came by this way."""
    requester = Waiting()
    job = key.partition("/")[0] if origin is Origin.JOB else None
    device.service.submit(Arrival(origin, payload, requester, key, job, retained=retained))
    async with asyncio.timeout(20):
        return await requester.end


async def taken(device: Device, payload: bytes, **how: Any) -> None:
    outcome = await sent(device, payload, **how)
    assert outcome.status is DetailedStatus.SUCCESSFUL, outcome


async def stale(device: Device, payload: bytes, **how: Any) -> None:
    outcome = await sent(device, payload, **how)
    assert (outcome.status, outcome.stack) == (DetailedStatus.REJECTED, STALE), outcome


def live(device: Device) -> str:
    return str(device.service.state.current.active.versions["app"])


@pytest.mark.parametrize(("origin", "key"), [(Origin.TOPIC, ""), (Origin.JOB, "again/1"), (Origin.SHADOW, "arn:again")])
async def test_a_signed_document_older_than_the_newest_is_stale_whatever_it_came_by(tmp_path, origin, key) -> None:
    at = now_ms()
    first, second = (signed(version(f"{number}.0.0", at + number, deploymentId=f"v{number}")) for number in (1, 2))
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, first)
        await taken(device, second)
        await stale(device, first, origin=origin, key=key)
        assert live(device) == "2.0.0"
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await stale(device, first, origin=origin, key=key)
        assert live(device) == "2.0.0"


async def test_a_signed_document_is_taken_once(tmp_path) -> None:
    document = signed(version("1.0.0", now_ms()))
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, document)
        await stale(device, document)


async def test_a_signed_rollback_is_taken_once_and_binds_every_group(tmp_path) -> None:
    at = now_ms()
    back, lab = signed({"rollback": True, "creationTimestamp": at + 3}), {"components": {}, "groupName": "lab"}
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, signed(version("1.0.0", at + 1)))
        await taken(device, signed(version("2.0.0", at + 2)))
        await taken(device, back)
        assert live(device) == "1.0.0"
        await stale(device, back)
        await stale(device, signed(lab | {"creationTimestamp": at + 2}))
        await taken(device, signed(lab | {"creationTimestamp": at + 5}))
        await stale(device, signed({"rollback": True, "creationTimestamp": at + 4, "deploymentId": "held back"}))
        assert live(device) == "1.0.0"


async def test_what_is_older_stays_stale_when_the_newest_failed_and_the_newest_may_come_again(tmp_path) -> None:
    at = now_ms()
    nowhere = {"components": {"app": {"version": "9.0.0"}}, "creationTimestamp": at + 3}
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, signed(version("1.0.0", at + 1)))
        for _ in range(2):
            outcome = await sent(device, signed(nowhere))
            assert outcome.status is DetailedStatus.FAILED_NO_STATE_CHANGE
        await stale(device, signed(version("2.0.0", at + 2)))
        assert live(device) == "1.0.0"


async def test_one_that_was_rolled_back_is_used_up(tmp_path) -> None:
    at = now_ms()
    broken = signed(scripts("2.0.0", Startup="exit 3") | {"creationTimestamp": at + 1})
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, signed(version("1.0.0", at)))
        assert (await sent(device, broken)).status is DetailedStatus.FAILED_ROLLBACK_COMPLETE
        await stale(device, broken)


async def test_a_retained_document_does_not_come_back_after_any_number_of_others(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("agent.greengrass.trust.order._MAX_TAKEN", 3)
    retained = json.dumps(version("1.0.0")).encode()
    async with running(tmp_path) as device:
        await taken(device, retained)
        for number in range(5):
            await taken(device, json.dumps(version("2.0.0", deploymentId=f"other-{number}")).encode())
    async with running(tmp_path) as device:
        outcome = await sent(device, retained, retained=True)
        assert (outcome.status, "ACCESS_DENIED" in outcome.stack) == (DetailedStatus.REJECTED, True)
        assert live(device) == "2.0.0"


async def test_a_retained_document_does_not_come_back_after_a_hundred_and_one_refused_ones(tmp_path) -> None:
    retained = json.dumps(version("1.0.0")).encode()
    async with running(tmp_path) as device:
        await taken(device, retained)
        await taken(device, json.dumps(version("2.0.0")).encode())
        for number in range(101):
            assert (await sent(device, b"{%d" % number)).status is DetailedStatus.FAILED_NO_STATE_CHANGE
    async with running(tmp_path) as device:
        device.service.submit(Arrival(Origin.TOPIC, retained, Waiting(), retained=True))
        await taken(device, json.dumps(version("3.0.0")).encode())
        assert str(device.service.state.previous.active.versions["app"]) == "2.0.0"


async def test_a_document_without_a_time_of_its_own_is_neither_stale_nor_makes_others_so(tmp_path, monkeypatch) -> None:
    year_ahead, clock = time.time() + 365 * 86_400, time.time
    async with running(tmp_path) as device:
        monkeypatch.setattr(time, "time", lambda: year_ahead)
        await taken(device, json.dumps(version("1.0.0")).encode(), origin=Origin.JOB, key="j1/1")
        monkeypatch.setattr(time, "time", clock)
        await taken(device, json.dumps(version("2.0.0", now_ms())).encode(), origin=Origin.JOB, key="j2/1")
        await taken(device, json.dumps(version("1.0.0")).encode())


@pytest.mark.parametrize("at", [99_999_999_999_999_999, 2 * DAY_MS])
async def test_a_time_far_in_the_future_is_refused_with_what_to_do(tmp_path, at) -> None:
    async with running(tmp_path) as device:
        outcome = await sent(device, json.dumps(version("1.0.0", at if at > now_ms() else now_ms() + at)).encode())
        assert (outcome.status, "creationTimestamp" in outcome.hint) == (DetailedStatus.REJECTED, True)
        await taken(device, json.dumps(version("1.0.0", now_ms())).encode())


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"thing": "another"}, "for the thing another, and this is t"),
        ({"expires": "2024-01-01T00:00:00Z"}, "expired at 2024-01-01"),
    ],
)
async def test_whom_a_document_is_for_and_until_when_counts_in_unsigned_ones_too(tmp_path, claims, cause) -> None:
    async with running(tmp_path) as device:
        outcome = await sent(device, json.dumps(version("1.0.0", **claims)).encode())
        assert outcome.status is DetailedStatus.REJECTED
        assert cause in outcome.cause


async def test_the_order_survives_a_deleted_ledger(tmp_path) -> None:
    at = now_ms()
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, signed(version("1.0.0", at)))
        await taken(device, signed(version("2.0.0", at + 1)))
    for file in Layout(tmp_path).ledger.parent.glob("ledger.db*"):
        file.unlink()
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await stale(device, signed(version("1.0.0", at)))
        await stale(device, signed(version("2.0.0", at + 1)))


async def test_an_upgrade_goes_on_from_the_times_of_the_active_set(tmp_path) -> None:
    at = now_ms()
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await taken(device, signed(version("1.0.0", at)))
        await taken(device, signed(version("2.0.0", at + 1)))
    for file in Layout(tmp_path).order.parent.glob("order*"):
        file.unlink()
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        await stale(device, signed(version("1.0.0", at)))
        assert device.service.order_damage == ""


async def test_a_clock_that_was_ahead_does_not_keep_later_configuration_out(tmp_path, monkeypatch) -> None:
    def configured(value: int) -> bytes:
        made = version("1.0.0")
        made["components"]["app"]["configurationUpdate"] = {"merge": {"value": value}}
        return json.dumps(made).encode()

    year_ahead, clock = time.time() + 365 * 86_400, time.time
    async with running(tmp_path) as device:
        monkeypatch.setattr(time, "time", lambda: year_ahead)
        await taken(device, configured(1))
        monkeypatch.setattr(time, "time", clock)
        await taken(device, configured(2))
        assert device.service.state.current.configs["app"].to_plain() == {"value": 2}


async def test_an_interrupted_deployment_is_not_stale_to_itself(tmp_path) -> None:
    at = now_ms()
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        entry = await device.ledger.receive("old", "TOPIC", signed(version("1.0.0", at)), at)
        await device.ledger.receive("new", "TOPIC", signed(version("2.0.0", at + 1)), at)
        assert entry
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        async with asyncio.timeout(20):
            while not (device.service.state.current.active.components and live(device) == "2.0.0"):
                await asyncio.sleep(0.01)
        assert device.service.state.previous is not None
        await stale(device, signed(version("1.0.0", at)))


class Asked(Waiting):
    """Keeps what it is answered, too."""

    def answered(self, payload: Mapping[str, Any]) -> None:
        self.end.set_result(payload)


async def cancelled(device: Device, payload: bytes) -> Any:
    """What becomes of a cancellation."""
    requester = Asked()
    device.service.submit(Arrival(Origin.TOPIC, payload, requester))
    async with asyncio.timeout(20):
        return await requester.end


async def waits(device: Device, payload: bytes) -> Waiting:
    """Have a deployment of a group of its own wait behind another one."""
    requester = Waiting()
    device.service.submit(Arrival(Origin.TOPIC, signed(scripts("1.0.0", Install="sleep 2")), Requester()))
    device.service.submit(Arrival(Origin.TOPIC, payload, requester))
    return requester


async def test_a_signed_cancellation_that_is_sent_again_does_not_cancel_a_later_deployment_of_the_same_id(
    tmp_path,
) -> None:
    at = now_ms()
    old, new = (signed({"cancel": "nightly", "creationTimestamp": at + late}) for late in (0, 2000))
    async with running(tmp_path, trust=SIGNED_ONLY) as device:
        nightly = signed(version("2.0.0", at + 1000, deploymentId="nightly", groupName="lab"))
        requester = await waits(device, nightly)
        refused = await cancelled(device, old)
        assert (refused.status, refused.stack) == (DetailedStatus.REJECTED, STALE)
        assert not requester.end.done()
        assert (await cancelled(device, new))["result"] == "CANCELED"
        assert (await requester.end).status is DetailedStatus.CANCELED


@pytest.mark.parametrize("more", [{"thing": "another"}, {"expires": "2020-01-01T00:00:00Z"}])
async def test_a_cancellation_for_another_thing_or_of_the_past_cancels_nothing_signed_or_not(tmp_path, more) -> None:
    async with running(tmp_path) as device:
        requester = await waits(device, json.dumps(version("2.0.0", deploymentId="nightly", groupName="lab")).encode())
        refused = await cancelled(device, json.dumps({"cancel": "nightly"} | more).encode())
        assert (refused.status, refused.stack[-1]) == (DetailedStatus.REJECTED, "ACCESS_DENIED")
        assert not requester.end.done()
