"""The attacks that The Update Framework lists, one test each, by somebody who owns the broker and every mirror.

He reads and writes every topic of a real broker that a real agent is connected to, keeps copies of all that was ever
signed, and answers for the servers that artifacts come from.  He has no key, but where a test gives him one.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from agent.config.deployments import RetryPolicy, StoreOptions
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.fetch import ArtifactRequest, Fetcher
from tests.support import agent as agents
from tests.support.agent import Agent
from tests.support.broker import Broker
from tests.support.http import HttpServer, Request, Response
from tests.support.keylists import iso, key_list, signed_document, signed_list, stamp
from tests.support.until import until_sync

ROLES = {
    "acme": {"keys": ["carl"], "components": ["com.acme.*"]},
    "press": {"keys": ["dora"], "things": ["press-*"], "groups": ["hall"], "components": ["com.press.*"]},
    "pair": {"keys": ["carl", "dora"], "threshold": 2, "components": ["com.pair.*"]},
}
ROOT = {"root": ("anna", "ben"), "threshold": 2, "timestamp": ("clock",)}
GOOD, EVIL = b"the model that was signed", b"the model of somebody else"
_ids = itertools.count(1)


def lists(version: int, roles: Mapping[str, Any] = ROLES, *signers: str, **more: Any) -> bytes:
    return signed_list(key_list(version, roles, issued=time.time(), **{**ROOT, **more}), *(signers or ("anna", "ben")))


def recipe(name: str, version: str, *, uri: str = "", dependencies: Mapping[str, str] | None = None) -> dict[str, Any]:
    artifact = {"Uri": uri, "Digest": _digest(GOOD), "Algorithm": "SHA-256"}
    return {
        "RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version,
        "ComponentDependencies": {
            other: {"VersionRequirement": required} for other, required in (dependencies or {}).items()
        },
        "Manifests": [{"Lifecycle": {"Run": "sleep 600"}, "Artifacts": [artifact] if uri else []}],
    }  # fmt: skip


def _digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def document(name: str, version: str = "1.0.0", group: str = "", **more: Any) -> dict[str, Any]:
    """What brings one component to a group of its own."""
    made = {
        "deploymentId": f"d{next(_ids)}", "groupName": group or name,
        "components": {name: {"version": version}}, "recipes": [recipe(name, version)],
    }  # fmt: skip
    return made | more


class Victim:
    """The device, and the attacker's hand on its broker."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent

    def deploy(self, payload: bytes) -> dict[str, Any]:
        """How a document ended."""
        answers = self.agent.topic(f"answers/{next(_ids)}")
        self.agent.peer.publish(self.agent.topic("deployments"), payload, ResponseTopic=answers)
        return self.agent.peer.wait(answers)

    def takes(self, payload: bytes) -> None:
        told = self.deploy(payload)
        assert told["detailedStatus"] == "SUCCESSFUL", told

    def refuses(self, payload: bytes, words: str, status: str = "REJECTED") -> None:
        told = self.deploy(payload)
        assert (told["detailedStatus"], words in told["cause"]) == (status, True), told

    def say(self, payload: bytes) -> None:
        """Send a key list or timestamp."""
        self.agent.peer.publish(self.agent.topic("trust"), payload)

    @property
    def trust(self) -> dict[str, Any]:
        return self.agent.peer.all(self.agent.topic("trust/status"))[-1]

    def refuses_word(self, payload: bytes, words: str) -> None:
        before = self.trust["refused"]
        self.say(payload)
        until_sync(lambda: self.trust["refused"] not in (None, before))
        assert words in self.trust["refused"]["reason"]

    def runs(self, component: str) -> str:
        """The version that runs; empty for none."""
        told = self.agent.peer.all(self.agent.topic(f"components/{component}"))
        return str(told[-1]["version"]) if told and told[-1]["state"] == "RUNNING" else ""


def device(port: int, folder: Path, **deployments: Any):
    (folder / "keys.json").write_bytes(lists(1))
    config = agents.configuration("press-7", port, folder, {})
    options = {
        "jobs": False, "shadow": False, "accept": "signed", "run_as": getpass.getuser(),
        "trust_list": str(folder / "keys.json"), **deployments,
    }  # fmt: skip
    return agents.running(config | {"models": {}, "streams": {}, "deployments": options}, folder)


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    with Broker() as broker, device(broker.port, tmp_path) as agent:
        agent.peer.wait(agent.topic("trust/status"))
        yield Victim(agent)


class Mirror:
    """A server of the attacker's; ``answer`` is what it gives."""

    def __init__(self) -> None:
        self.answer = lambda _request: Response(200, GOOD)
        self._server = HttpServer(self._answer)

    def _answer(self, request: Request) -> Response:
        return self.answer(request)

    def uri(self, name: str = "model.bin") -> str:
        return f"http://127.0.0.1:{self._server.port}/{name}"

    @property
    def asked(self) -> int:
        return len(self._server.requests)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.__exit__(*exc_info)


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as one:
        yield one


def now(**how: float) -> float:
    return time.time() + how.get("plus", 0.0)


def test_arbitrary_software_is_not_installed(victim) -> None:
    wanted = document("com.acme.app")
    victim.refuses(json.dumps(wanted).encode(), "not signed")
    victim.refuses(signed_document(wanted, "mallory", at=now()), "not in this device's key list")
    envelope = json.loads(signed_document(wanted, "carl", at=now()))
    changed = json.loads(signed_document(document("com.acme.app", "6.6.6"), "carl", at=now()))
    victim.refuses(json.dumps(envelope | {"document": changed["document"]}).encode(), "does not fit the document")
    victim.refuses(signed_list(json.dumps(wanted).encode(), "carl"), "does not fit the document")
    assert victim.runs("com.acme.app") == ""
    victim.takes(signed_document(wanted, "carl", at=now()))


def test_endless_data_is_refused_before_it_costs_anything(victim, mirror, tmp_path) -> None:
    mirror.answer = lambda _: Response(200, (bytes(65536) for _ in range(10**9)), {"content-length": str(5 * 1024**4)})
    endless = document("com.acme.app", recipes=[recipe("com.acme.app", "1.0.0", uri=mirror.uri())])
    told = victim.deploy(signed_document(endless, "carl", at=now()))
    assert told["detailedStatus"] == "FAILED_NO_STATE_CHANGE"
    assert "no room" in told["cause"] or "the limit is" in told["cause"]
    large = document("com.acme.app", padding="x" * 30_000_000)
    assert "DEPLOYMENT_DOCUMENT_SIZE_EXCEEDED" in victim.deploy(json.dumps(large).encode())["errorStack"]
    victim.say(b"[" * 6_000_000)
    until_sync(lambda: victim.trust["dropped"] == 1)
    kept = sum(path.stat().st_size for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert kept < 10_000_000


async def test_endless_data_of_an_unknown_size_is_broken_off_at_the_limit(mirror, tmp_path) -> None:
    mirror.answer = lambda _: Response(200, (bytes(65536) for _ in range(10**9)), {"connection": "close"})
    fetcher = Fetcher(Cache(tmp_path / "cache"), max_artifact_bytes=1_000_000)
    with pytest.raises(ArtifactError, match="limit"):
        await fetcher.fetch_all([ArtifactRequest(mirror.uri(), tmp_path / "model.bin")])


def test_extraneous_dependencies_are_not_installed(victim) -> None:
    brings = recipe("com.acme.app", "1.0.0", dependencies={"org.extra": "*"})
    both = [brings, recipe("org.extra", "1.0.0")]
    victim.refuses(
        signed_document(document("com.acme.app", recipes=both), "carl", at=now()), "may not deploy org.extra"
    )
    # Without its recipe there is nothing that it could be.
    told = victim.deploy(signed_document(document("com.acme.app", recipes=[brings]), "carl", at=now()))
    assert told["detailedStatus"] == "FAILED_NO_STATE_CHANGE"
    assert "org.extra" in told["cause"]
    assert victim.runs("org.extra") == victim.runs("com.acme.app") == ""


def test_nobody_fast_forwards_a_device_past_what_is_to_come(victim) -> None:
    year = 365 * 86_400.0
    victim.refuses(signed_document(document("com.acme.app"), "carl", at=now(plus=year)), "here")
    victim.takes(signed_document(document("com.acme.app"), "carl", at=now()))
    victim.refuses_word(stamp(now(plus=year), "clock"), "here")
    victim.refuses_word(lists(2**52), "versions ahead")
    victim.say(lists(2))
    until_sync(lambda: victim.trust["keys"]["version"] == 2)


def test_a_device_that_is_kept_from_news_notices_and_trusts_nothing_old(tmp_path) -> None:
    with Broker() as broker, device(broker.port, tmp_path, max_silence_s=4) as agent:
        victim = Victim(agent)
        old_stamp = stamp(now(plus=-10), "clock")
        old_document = signed_document(document("com.acme.app"), "carl", at=now(plus=-10))
        agent.peer.wait(agent.topic("trust/status"), lambda told: told["silent"])
        victim.refuses(old_document, "trusts only what was signed within 4 s")
        victim.say(old_stamp)
        victim.refuses(old_document, "trusts only what was signed within 4 s")
        assert victim.trust["silent"]
        assert victim.trust["age_s"] >= 4
        victim.takes(signed_document(document("com.acme.app"), "carl", at=now()))
        assert victim.runs("com.acme.app")
        until_sync(lambda: victim.trust["silent"])
        assert victim.runs("com.acme.app")


def test_a_mirror_that_gives_nothing_or_rubbish_stops_one_deployment_and_not_the_next(victim, mirror) -> None:
    victim.takes(signed_document(document("com.acme.app"), "carl", at=now()))
    for answer in (Response(404), Response(200, EVIL), Response(200, b"")):
        mirror.answer = lambda _, answer=answer: answer
        update = document("com.acme.app", "2.0.0", recipes=[recipe("com.acme.app", "2.0.0", uri=mirror.uri())])
        told = victim.deploy(signed_document(update, "carl", at=now()))
        assert told["detailedStatus"] == "FAILED_NO_STATE_CHANGE", told
        assert victim.runs("com.acme.app") == "1.0.0"
    # One that is busy for ever holds its deployment, which says so; the next one does not wait for it.
    mirror.answer = lambda _: Response(503)
    held = document("com.acme.app", "2.0.0", recipes=[recipe("com.acme.app", "2.0.0", uri=mirror.uri())])
    victim.agent.peer.publish(victim.agent.topic("deployments"), signed_document(held, "carl", at=now()))
    victim.agent.peer.wait(victim.agent.topic(f"deployments/{held['deploymentId']}"), lambda told: "503" in str(told))
    with Mirror() as other:
        update = document("com.acme.app", "2.0.0", recipes=[recipe("com.acme.app", "2.0.0", uri=other.uri())])
        victim.takes(signed_document(update, "carl", at=now()))
    assert victim.runs("com.acme.app") == "2.0.0"


def test_parts_of_different_times_do_not_make_one_whole(victim, mirror) -> None:
    # An artifact of another release under the name of this one.
    mirror.answer = lambda _: Response(200, EVIL)
    mixed = document("com.acme.app", recipes=[recipe("com.acme.app", "1.0.0", uri=mirror.uri())])
    victim.refuses(signed_document(mixed, "carl", at=now()), "the recipe says", "FAILED_NO_STATE_CHANGE")
    # One signature of each of two documents.
    one, other = (json.loads(signed_document(document("com.pair.app"), name, at=now())) for name in ("carl", "dora"))
    both = one | {"signatures": one["signatures"] + other["signatures"]}
    victim.refuses(json.dumps(both).encode(), "does not fit the document")
    # The documents of today with the key list of yesterday.
    victim.say(stamp(now(), "clock", keys=2))
    until_sync(lambda: victim.trust["missing_list"] == 2)
    fresh = signed_document(document("com.acme.app"), "carl", at=now())
    victim.refuses(fresh, "there is a key list 2, and this device has 1")
    victim.say(lists(2))
    until_sync(lambda: victim.trust["missing_list"] is None)
    victim.takes(fresh)


def test_what_was_replaced_does_not_come_back(victim) -> None:
    began = now()
    old = signed_document(document("com.acme.app", "1.0.0"), "carl", at=began)
    new = signed_document(document("com.acme.app", "2.0.0"), "carl", at=began + 1)
    victim.takes(old)
    victim.takes(new)
    for payload in (old, new):
        told = victim.deploy(payload)
        assert (told["detailedStatus"], "REJECTED_STALE_DEPLOYMENT" in told["errorStack"]) == ("REJECTED", True), told
    victim.say(lists(2))
    until_sync(lambda: victim.trust["keys"]["version"] == 2)
    victim.refuses_word(lists(1), "is not newer than 2")
    assert victim.runs("com.acme.app") == "2.0.0"


async def test_a_mirror_that_gives_a_byte_now_and_then_holds_nobody_for_ever(mirror, tmp_path) -> None:
    let_go = threading.Event()

    def drops() -> Iterator[bytes]:
        while not let_go.wait(0.05):
            yield b"x"

    mirror.answer = lambda _: Response(200, drops(), {"content-length": "1000000", "etag": '"1"'})
    fetcher = Fetcher(
        Cache(tmp_path / "cache"),
        StoreOptions(min_bytes_per_s=10_000, rate_window_s=0.3),
        retry=RetryPolicy(base_s=0.01, cap_s=0.01, give_up_after_s=1),
    )
    began = time.monotonic()
    with pytest.raises(ArtifactUnreachableError, match="a second is the least"):
        await fetcher.fetch_all([ArtifactRequest(mirror.uri(), tmp_path / "model.bin")])
    let_go.set()
    assert time.monotonic() - began < 20
    assert mirror.asked > 1


def test_a_stolen_key_does_what_its_role_may_until_it_is_revoked(victim) -> None:
    # dora's key was stolen: it is for com.press.* of one group, and half of a pair.
    for wanted in (document("com.acme.app"), document("com.press.app", group="shop"), document("aws.greengrass.Cli")):
        victim.refuses(signed_document(wanted, "dora", at=now()), "may not deploy")
    victim.refuses(signed_document(document("com.pair.app"), "dora", at=now()), "needs 2 signatures of the role pair")
    victim.refuses(signed_document({"rollback": True, "deploymentId": "back"}, "dora", at=now()), "role")
    # anna's was stolen, too: it is one of the two that a list needs.
    everything = {"all": {"keys": ["mallory"]}}
    victim.refuses_word(lists(2, everything, "anna", root=("anna", "ben")), "1 of the 2 signatures")
    victim.refuses_word(lists(2, everything, "anna", "mallory", root=("anna", "mallory")), "1 of the 2 signatures")
    # Both are taken out, by ben and emil, whom list 1 does not know as a root: so anna signs for the last time.
    without = {"acme": ROLES["acme"]}
    victim.say(lists(2, without, "anna", "ben", "emil", root=("ben", "emil")))
    until_sync(lambda: victim.trust["keys"]["version"] == 2)
    victim.refuses(signed_document(document("com.press.app", group="hall"), "dora", at=now()), "it was revoked")
    victim.refuses_word(lists(3, everything, "anna", "mallory", root=("anna", "mallory")), "0 of the 2 signatures")


def test_what_is_right_for_another_device_is_not_installed_here(victim) -> None:
    victim.refuses(
        signed_document(document("com.acme.app", thing="press-8"), "carl", at=now()), "for the thing press-8"
    )
    arn = "arn:aws:greengrass:eu-west-1:1:configuration:thing/press-8:1"
    other = {**document("com.acme.app"), "configurationArn": arn}
    victim.refuses(signed_document(other, "carl", at=now()), "for the thing press-8")
    over = document("com.acme.app", expires=iso(now(plus=-60)))
    victim.refuses(signed_document(over, "carl", at=now(plus=-120)), "expired")
    victim.refuses(signed_document(document("com.press.app", group="shop"), "dora", at=now()), "for the group")
    assert victim.runs("com.acme.app") == ""
