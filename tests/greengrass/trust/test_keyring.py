"""The keyring: what it takes, what it keeps on disk, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent.greengrass.deployments.ledger import Step
from agent.greengrass.deployments.outcome import DetailedStatus
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.requesters import Arrival
from agent.greengrass.trust import keylist
from agent.greengrass.trust.keylist import KeyList, Scope
from agent.greengrass.trust.keyring import Keyring, KeyringFile, trust_words
from agent.greengrass.trust.keys import PublicKey
from agent.greengrass.trust.policy import Link, LinkKind, TrustPolicy
from agent.greengrass.trust.signatures import NotTrustedError, SignedKind, signers, unsealed
from agent.mqtt.transport import Message
from tests.greengrass.deployments.test_service import NOTHING, Waiting, running, scripts
from tests.support.keylists import key, key_list, opened, signed_document, signed_list, stamp
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.until import until

ANY = {"all": {"keys": ["carl"]}}
ONE, TWO = (signed_list(key_list(version, ANY), "anna") for version in (1, 2))
SCOPE = Scope("t", "LOCAL_DEPLOYMENT", frozenset(("app",)))
CONFIGURED = KeyList.configured({key(name).public.id: key(name).public for name in ("anna", "ben")})


def keyring(folder, keys=CONFIGURED, signed=None, **more) -> Keyring:
    made = Keyring(
        TrustPolicy(Link(LinkKind.LOCAL), "signed", keys, **more), thing="t", file=KeyringFile(folder), signed=signed
    )
    made.open()
    return made


def took(made: Keyring, *payloads: bytes) -> Keyring:
    for payload in payloads:
        assert made.receive(payload) == ""
        made._keep()
    return made


def version(made: Keyring) -> int:
    return made.policy.keys.version


def test_a_list_that_was_taken_is_there_after_a_restart_for_its_owner_alone(tmp_path):
    took(keyring(tmp_path), ONE, TWO)
    assert version(keyring(tmp_path)) == 2
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["keyring.2.json", "keyring.json"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_the_keys_of_the_configuration_do_not_come_back_after_a_list(tmp_path):
    took(keyring(tmp_path), ONE)
    payload = signed_document({"components": {}}, "ben")
    with pytest.raises(NotTrustedError, match="key list"):
        keyring(tmp_path).admit(payload, thing="t", now=time.time())


@pytest.mark.parametrize("damaged", ["keyring.json", "keyring.2.json"])
@pytest.mark.parametrize("how", [b"", b"{", b'{"sha256": "0", "content": "{}"}', None])
def test_one_of_the_two_files_is_enough(tmp_path, damaged, how):
    took(keyring(tmp_path), ONE, TWO)
    path = tmp_path / damaged
    if how is None:
        path.unlink()
    else:
        path.write_bytes(how)
    assert version(keyring(tmp_path)) == 2


def test_a_change_of_one_bit_shows(tmp_path):
    took(keyring(tmp_path), ONE)
    path = tmp_path / "keyring.json"
    path.write_bytes(path.read_bytes().replace(b'"newest_list":0', b'"newest_list":7'))
    (tmp_path / "keyring.2.json").unlink()
    with pytest.raises(NotTrustedError, match="damaged"):
        KeyringFile(tmp_path).read()


def test_with_both_files_damaged_nothing_signed_is_taken_until_a_list_came(tmp_path):
    took(keyring(tmp_path), ONE)
    for path in tmp_path.iterdir():
        path.write_bytes(b"?")
    made = keyring(tmp_path)
    payload = signed_document({"components": {}}, "anna")
    with pytest.raises(NotTrustedError, match="damaged"):
        made.admit(payload, thing="t", now=time.time())
    assert "damaged" in made.status(time.time())["trouble"]
    took(made, TWO)
    assert made.admit(signed_document({"components": {}}, "carl"), thing="t", now=time.time()).signers
    assert version(keyring(tmp_path)) == 2


def test_the_list_of_the_configuration_is_taken_where_it_is_newer_and_signed_by_the_one_before(tmp_path):
    configured = keylist.first(opened(TWO))
    took(keyring(tmp_path), ONE)
    assert version(keyring(tmp_path, configured, opened(TWO))) == 2
    assert version(keyring(tmp_path, keylist.first(opened(ONE)), opened(ONE))) == 2
    foreign = signed_list(key_list(9, ANY, root=("mallory",)), "mallory")
    made = keyring(tmp_path, keylist.first(opened(foreign)), opened(foreign))
    assert version(made) == 2
    assert "of the 1 signatures" in made.status(time.time())["refused"]["reason"]


def test_a_device_that_was_away_takes_all_the_lists_it_missed_at_once(tmp_path):
    roots = ("anna", "ben"), ("ben", "carl"), ("carl", "dora"), ("dora",)
    envelopes = [
        signed_list(key_list(number, ANY, root=root), before, *root)
        for number, (before, root) in enumerate(zip(("anna", "anna", "ben", "carl"), roots, strict=True), 1)
    ]
    bundle = b"[" + b",".join(envelopes) + b"]"
    made = took(keyring(tmp_path), envelopes[0], bundle)
    assert version(made) == 4
    assert version(took(made, bundle[:-1] + b"]")) == 4


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[]", b"[1]", b"no", b"[" * 5000, signed_document({"components": {}}, "anna")]
)
def test_what_is_no_list_and_no_timestamp_is_refused(payload):
    with pytest.raises(NotTrustedError):
        trust_words(payload)


def test_a_list_on_the_topic_of_deployments_says_where_it_belongs(tmp_path):
    with pytest.raises(NotTrustedError, match="verge/t/trust"):
        keyring(tmp_path).admit(ONE, thing="t", now=time.time())


def test_a_signed_document_that_was_allowed_is_the_newest_word_also_after_a_restart(tmp_path):
    made = keyring(tmp_path)
    now = time.time()
    admission = made.admit(signed_document({"components": {}}, "ben", at=now - 60), thing="t", now=now)
    assert made.status(now)["age_s"] is None
    made.authorize(admission, SCOPE)
    made._keep()
    status = keyring(tmp_path).status(now)
    assert (status["last_word"]["kind"], status["age_s"]) == ("document", 60)


async def test_a_document_that_waits_is_refused_when_its_key_is_revoked_meanwhile(tmp_path):
    made = took(keyring(tmp_path / "trust"), signed_list(key_list(1, {"all": {"keys": ["carl", "dora"]}}), "anna"))
    go, now = tmp_path / "go", time.time()
    slow = scripts("1.0.0", Install=f"until [ -e {go} ]; do sleep 0.05; done", Run="sleep 600")
    async with running(tmp_path / "device", trust=made) as device:
        first, second = Waiting(), Waiting()
        document = signed_document({**slow, "groupName": "one"}, "carl", at=now)
        device.service.submit(Arrival(Origin.TOPIC, document, first))
        await until(lambda: first.steps)
        document = signed_document({"deploymentId": "waits", "groupName": "two", **NOTHING}, "dora", at=now)
        device.service.submit(Arrival(Origin.TOPIC, document, second))
        await until(lambda: any(one.id == "waits" for one in device.service._queue.waiting))
        took(made, TWO)
        go.touch()
        assert (await first.end).status is DetailedStatus.SUCCESSFUL
        outcome = await second.end
        assert "dora" in outcome.cause
        assert "ACCESS_DENIED" in outcome.stack


async def test_a_rollback_needs_a_role_for_every_group_because_all_of_them_have_to_be_newer_than_it(tmp_path):
    roles = {"one": {"keys": ["carl"], "groups": ["thinggroup/one"]}, "all": {"keys": ["dora"]}}
    made = took(keyring(tmp_path / "trust"), signed_list(key_list(1, roles), "anna"))
    now = time.time()
    async with running(tmp_path / "device", trust=made) as device:
        for late, (signer, document, taken) in enumerate([
            ("carl", scripts("1.0.0", Run="sleep 600") | {"groupName": "one"}, True),
            ("carl", scripts("2.0.0", Run="sleep 600") | {"groupName": "one"}, True),
            ("carl", {"rollback": True, "groupName": "one"}, False),
            ("dora", {"rollback": True}, True),
        ]):  # fmt: skip
            requester = Waiting()
            payload = signed_document(document, signer, at=now + late)
            device.service.submit(Arrival(Origin.TOPIC, payload, requester))
            outcome = await requester.end
            assert (outcome.status is DetailedStatus.SUCCESSFUL) is taken, outcome
            assert taken or "ACCESS_DENIED" in outcome.stack


async def test_a_deployment_that_waits_for_its_artifact_changes_nothing_when_its_key_is_revoked_meanwhile(tmp_path):
    made = took(keyring(tmp_path / "trust"), signed_list(key_list(1, {"all": {"keys": ["carl", "dora"]}}), "anna"))
    async with running(tmp_path / "device", trust=made) as device:
        device.ledger.after_step = lambda step: took(made, TWO) and None if step is Step.STAGED else None
        requester = Waiting()
        document = signed_document(scripts("1.0.0", Run="sleep 600"), "dora", at=time.time())
        device.service.submit(Arrival(Origin.TOPIC, document, requester))
        outcome = await requester.end
        assert (outcome.status, "ACCESS_DENIED" in outcome.stack) == (DetailedStatus.FAILED_NO_STATE_CHANGE, True)
        assert not device.service.state.current.active.components


def test_refusals_by_the_hundred_do_not_fill_the_log(tmp_path, caplog):
    made = took(keyring(tmp_path), TWO)
    for number in range(100):
        made.receive(b"[]" if number % 2 else ONE)
    assert len([line for line in caplog.messages if "refused" in line]) == 1


def test_a_signature_that_is_there_many_times_is_checked_once(monkeypatch):
    checked: list[str] = []
    monkeypatch.setattr(PublicKey, "verifies", lambda self, *_: checked.append(self.id) or True)
    envelope = json.loads(stamp(time.time(), "anna"))
    content = unsealed(json.dumps(envelope | {"signatures": envelope["signatures"] * 16}).encode())
    assert len(signers(SignedKind.STILL_VALID, content.content, content.signatures, CONFIGURED.keys)) == 1
    assert len(checked) == 1


# -- on the topic ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(made: Keyring) -> AsyncIterator[tuple[Any, MemoryTransport]]:
    reports: list[dict[str, Any]] = []
    made._report = lambda payload: reports.append(json.loads(payload))
    async with MemoryTransport(MemoryBus(), "agent") as transport, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(made.serve(transport, "verge/t/trust"))
        await until(lambda: reports)
        yield reports, transport
        task.cancel()


async def test_lists_and_timestamps_come_on_the_topic_and_the_status_says_what_is_in_use(tmp_path):
    made = keyring(tmp_path)
    async with serving(made) as (reports, transport):
        transport.publish(Message("verge/t/trust", ONE, retain=True))
        await until(lambda: reports[-1]["keys"]["version"] == 1)
        at = time.time() - 10
        transport.publish(Message("verge/t/trust", stamp(at, "anna", keys=3)))
        await until(lambda: reports[-1]["missing_list"] == 3)
        assert reports[-1]["keys"]["roles"]["all"]["keys"] == [str(key("carl").public)]
        transport.publish(Message("verge/t/trust", signed_list(key_list(5, ANY), "mallory")))
        await until(lambda: reports[-1]["refused"])
        assert "verge trust sign" in reports[-1]["refused"]["hint"]
        assert version(made) == 1


async def test_the_status_says_at_once_that_the_silence_is_too_long(tmp_path):
    made = keyring(tmp_path, max_silence_s=1.0)
    async with serving(made) as (reports, transport):
        assert reports[-1]["silent"]
        transport.publish(Message("verge/t/trust", stamp(time.time() + 0.5, "anna")))
        await until(lambda: not reports[-1]["silent"])
        await until(lambda: reports[-1]["silent"])


async def test_a_flood_on_the_topic_is_counted_and_costs_a_bounded_inbox(tmp_path):
    made = keyring(tmp_path)
    async with serving(made) as (reports, transport):
        for _ in range(200):
            transport.publish(Message("verge/t/trust", b"noise"))
        made.submit(b"[" * 5_000_000)
        await until(lambda: reports[-1]["dropped"] > 100)
        assert len(made._inbox) <= 16
