"""The production topology, and its link to the cloud cut at every step of a deployment.

Frames are on a broker beside the agent; results, jobs and health go through a stand-in for IoT Core, a mosquitto with
mutual TLS behind an outbox, and models come from moto's S3.  Between the agent and its cloud are two links that are cut
on what the Jobs service hears and says: it runs here, on the event loop of the links, so that nothing happens between
the word and the cut.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import signal
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

from agent.aws.jobs.messages import Status
from agent.aws.jobs.service.caller import Caller, calling
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.aws.jobs.topics import GREENGRASS, ShadowTopics
from agent.config.transports import OutboxOptions
from agent.greengrass.deployments.ledger import Step
from agent.greengrass.fleet.service import health_topic
from agent.mqtt.client import MqttTransport
from agent.mqtt.outbox.record import route
from agent.mqtt.transport import Delivered, Handler, Message, Transport
from tests.support import agent as agents
from tests.support import unruly
from tests.support.cloud import Cloud
from tests.support.credentials_endpoint import Endpoint
from tests.support.cutter import Cutter
from tests.support.fleet import Fleet, document
from tests.support.moto import Moto
from tests.support.peer import Peer, peer
from tests.support.shadow import CloudShadow
from tests.support.until import until_sync

BUCKET = "fleet-models"
PATIENCE_S = 20.0
A_REQUEST = 150
"""Bytes in a TLS record that is a request, and no acknowledgement."""

Answer = TypeVar("Answer")


# -- the cloud ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """What the Jobs service heard or said."""

    heard: bool
    topic: str
    told: dict[str, Any]

    def asks(self, verb: str) -> bool:
        return self.heard and self.topic.endswith(f"/{verb}")

    def updates(self, *statuses: Status) -> bool:
        return self.heard and self.topic.endswith("/update") and self.told["status"] in statuses

    def at(self, step: str) -> bool:
        return self.updates(Status.IN_PROGRESS) and (self.told.get("statusDetails") or {}).get("step", "") == step

    @property
    def tells_a_job(self) -> bool:
        return not self.heard and self.topic.endswith("/accepted") and bool(self.told.get("execution"))


class Overheard:
    """The transport of the Jobs service; ``hears`` each word before it is heard, or goes out."""

    def __init__(self, inner: Transport, hears: Callable[[Word], None]) -> None:
        self._inner = inner
        self._hears = hears
        self._handlers: dict[Handler, Handler] = {}

    def subscribe(self, topic_filter: str, handler: Handler, *, qos: int = 0) -> None:
        def heard(message: Message) -> None:
            self._hears(Word(True, message.topic, json.loads(message.payload or b"{}")))
            handler(message)

        self._inner.subscribe(topic_filter, self._handlers.setdefault(handler, heard), qos=qos)

    def unsubscribe(self, topic_filter: str, handler: Handler) -> None:
        self._inner.unsubscribe(topic_filter, self._handlers[handler])

    def publish(self, message: Message, on_delivered: Delivered | None = None) -> None:
        self._hears(Word(False, message.topic, json.loads(message.payload)))
        self._inner.publish(message, on_delivered)


@dataclass
class Site:
    """The cloud and the links to it, on an event loop of their own; ``with`` runs them."""

    cloud: Cloud
    moto: Moto
    folder: Path
    words: list[Word] = field(default_factory=list)
    away: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)))
        self._thread.start()
        assert ready.wait(30)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._over, self._cue = asyncio.get_running_loop(), asyncio.Event(), None
        async with AsyncExitStack() as stack:
            self.uplink = await stack.enter_async_context(Cutter(self.cloud.broker.port))
            self.downloads = await stack.enter_async_context(Cutter(self.moto.port))
            bus = await stack.enter_async_context(MqttTransport("jobs", self.cloud.back_door))
            store = stack.enter_context(JobStore(self.folder))
            await bus.wait_connected(10)
            self._overheard: Transport = Overheard(bus, self._hear)  # type: ignore[assignment]
            await stack.enter_async_context(JobsService(self._overheard, store))
            self._caller: Caller = await stack.enter_async_context(calling(bus))
            ready.set()
            await self._over.wait()

    def _hear(self, word: Word) -> None:
        self.words.append(word)
        if self._cue and self._cue[0](word):
            (_, act), self._cue = self._cue, None
            act()

    # -- from the test's thread --------------------------------------------------------------------------------

    def do(self, act: Callable[[], Answer]) -> Answer:
        """Have something done on the loop."""

        async def done() -> Answer:
            return act()

        return self._await(done())

    def on(self, cue: Callable[[Word], bool], act: Callable[[], None]) -> None:
        """Have ``act`` done at the first word that is the cue, before anything comes of that word."""
        self.do(lambda: setattr(self, "_cue", (cue, act)))

    def cut(self) -> None:
        """Cut both links."""
        self.downloads.cut()
        self.cut_uplink()

    def cut_uplink(self) -> None:
        self.uplink.cut()
        self.away.set()

    def restore(self) -> None:
        self.do(self.uplink.restore)
        self.do(self.downloads.restore)

    def quiet(self) -> None:
        """Forget what a test before this one left."""
        self.restore()
        self.do(lambda: setattr(self, "_cue", None))
        self.words.clear()
        self.away.clear()

    def ask(self, verb: str, **request: Any) -> Any:
        return self._await(self._caller.ask(verb, request))

    def create(self, job: str, thing: str, told: dict[str, Any], namespace: str = GREENGRASS) -> None:
        self.ask(
            "create", jobId=job, targets=[thing], document=told, **({"namespaceId": namespace} if namespace else {})
        )

    @contextmanager
    def shadow(self, thing: str) -> Iterator[CloudShadow]:
        """The thing's deployment shadow."""
        shadow = self.do(lambda: CloudShadow(self._overheard, ShadowTopics(thing).base))
        yield shadow
        self.do(shadow.close)

    def ended(self, job: str) -> dict[str, Any]:
        """The one execution of a job, at its end."""

        def at_its_end() -> list[dict[str, Any]]:
            executions = self.ask("executions", jobId=job)
            return executions if all(Status(one["status"]).terminal for one in executions) else []

        (execution,) = until_sync(at_its_end, PATIENCE_S, why=lambda: self.words)
        return execution

    def history(self, job: str) -> list[tuple[str, str, int]]:
        """Status, step and version as the service took them, in its order."""
        heard = [word for word in self.words if word.topic.endswith("/update/accepted") and f"/{job}/" in word.topic]
        taken = [word.told["executionState"] for word in heard]
        return [(one["status"], one["statusDetails"].get("step", ""), one["versionNumber"]) for one in taken]

    def _await(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def publish_model(self, recipe: dict[str, Any]) -> dict[str, Any]:
        """The recipe with its artifact in S3."""
        (artifact,) = recipe["Manifests"][0]["Artifacts"]
        path = Path(artifact["Uri"].removeprefix("file://"))
        key = f"{path.parent.parent.name}/{path.name}"
        self.moto.put(BUCKET, key, path.read_bytes())
        artifact["Uri"] = f"s3://{BUCKET}/{key}"
        return recipe


@pytest.fixture(scope="module")
def site_of_all(certificates, tmp_path_factory) -> Iterator[Site]:
    with Cloud(certificates) as cloud, Moto() as moto, Site(cloud, moto, tmp_path_factory.mktemp("jobs")) as running:
        yield running


@pytest.fixture
def site(site_of_all) -> Site:
    site_of_all.quiet()
    return site_of_all


@pytest.fixture
def cloud(site, thing) -> Iterator[Peer]:
    """Hears all that the thing and the service say in the cloud."""
    with peer(site.cloud.back_port) as listener:
        listener.subscribe(f"verge/{thing}/#")
        listener.subscribe(f"$aws/things/{thing}/#")
        yield listener


# -- the device --------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(site, broker, thing, tmp_path, certificates) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    config["transports"]["cloud"] = {
        "type": "iotcore",
        "endpoint": "127.0.0.1",
        "port": site.uplink.port,
        "ca_file": str(certificates.ca),
        "cert_file": str(certificates.client_cert),
        "key_file": str(certificates.client_key),
        "backoff_base_s": 0.05,
        "backoff_cap_s": 0.2,
        "outbox": {},
    }
    return config | {
        "models": {},
        "streams": {},
        "deployments": {"transport": "cloud", "run_as": getpass.getuser()},
        "aws": {"region": "us-east-1", "s3_endpoint_url": f"http://127.0.0.1:{site.downloads.port}"},
    }


@pytest.fixture(autouse=True)
def credentials(monkeypatch) -> None:
    """What the AWS SDK finds in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIADEVICE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet(tmp_path / "fleet")


@dataclass
class Revisions:
    """What the fleet's owner wants of this thing: a model and a stream, and scripts that take a while if it is slow."""

    fleet: Fleet
    site: Site
    thing: str

    def __call__(self, number: int, *, slow: bool = False) -> dict[str, Any]:
        version = f"{number}.0.0"
        files = {
            "model.unruly": b"", "labels.txt": b"calm\nfine\nodd\n", "weights": version.encode() * 80_000,
            "manifest.toml": b'file = "model.unruly"\nlabels = "labels.txt"\nbackend = "unruly:Unruly"\n',
        }  # fmt: skip
        outputs = [{"transport": "cloud"}]
        frames = f"{self.thing}/cameras/+/frame"
        recipes = [
            self.site.publish_model(self.fleet.packed("com.model", version, files)),
            self.fleet.stream("com.cameras", "com.model", frames, version, Outputs=outputs),
            *([self.fleet.scripts("com.scripts", version, Startup="sleep 0.3")] if slow else []),
        ]
        arn = f"arn:aws:greengrass:us-east-1:123456789012:configuration:thinggroup/line:{number}"
        told = {"configurationArn": arn, "creationTimestamp": 1_700_000_000_000 + number, "version": "2019-06-30"}
        return document(f"d{number}", recipes, {each["ComponentName"]: version for each in recipes}) | told


@pytest.fixture
def revision(fleet, site, thing) -> Revisions:
    return Revisions(fleet, site, thing)


@pytest.fixture
def jobs(thing) -> tuple[str, str]:
    """The names of the first job and of the second."""
    return f"{thing}-1", f"{thing}-2"


def answering(agent: agents.Agent, cloud: Peer) -> str:
    """The version of the model that answers a frame of the local broker in the cloud."""
    before = len(results(agent, cloud))
    agent.frame("door", unruly.jpeg("answer"))
    wait(lambda: len(results(agent, cloud)) > before, agent)
    return results(agent, cloud)[-1]["model"]["version"]


def results(agent: agents.Agent, cloud: Peer) -> list[dict[str, Any]]:
    return cloud.all(agent.topic("results/com.cameras"))


def wait(condition: Callable[[], object], agent: agents.Agent) -> None:
    until_sync(condition, PATIENCE_S, why=lambda: agent.log)


def over(agent: agents.Agent, identity: str) -> bool:
    """Whether a deployment has ended on the device, whoever knows of it."""
    database = sqlite3.connect(agent.folder / "data" / "deployments" / "ledger.db")
    rows = database.execute("SELECT id FROM deployments WHERE id = ? AND outcome IS NOT NULL", (identity,)).fetchall()
    database.close()
    return bool(rows)


def offline(agent: agents.Agent) -> bool:
    """Whether the agent says on the local broker that it has no link to the cloud."""
    said = agent.peer.all(agent.topic("transports/cloud"))
    return bool(said) and not said[-1]["connected"]


STEPS = ["", *Step]


def check_history(told: list[tuple[str, str, int]], status: str, begins_with: int = 2) -> None:
    """Each status once, in the order of a deployment, and one end; the first made the version ``begins_with``."""
    statuses, steps, versions = zip(*told, strict=True)
    assert statuses == ("IN_PROGRESS",) * (len(told) - 1) + (status,), told
    assert sorted(steps[:-1], key=STEPS.index) == list(steps[:-1]), told
    assert list(versions) == list(range(begins_with, len(told) + begins_with)), told


# -- the topology ------------------------------------------------------------------------------------------------------


def test_frames_of_the_local_broker_give_results_in_the_cloud_by_a_model_from_s3(
    site, cloud, config, revision, certificates, thing, jobs, tmp_path, monkeypatch
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with Endpoint(certificates) as provider:
        config["aws"] |= {"role_alias": "Devices", "credentials_endpoint": provider.host}
        with agents.running(config, tmp_path) as agent:
            site.create(jobs[0], thing, revision(1, slow=True))
            ended = site.ended(jobs[0])
            assert (ended["status"], ended["executionNumber"]) == ("SUCCEEDED", 1)
            assert ended["statusDetails"] == {"detailed-deployment-status": "SUCCESSFUL"}
            check_history(site.history(jobs[0]), "SUCCEEDED")
            assert answering(agent, cloud) == "1.0.0"
            health = cloud.wait(health_topic(thing, "$aws"), lambda told: "deploymentInformation" in told)
            assert health["deploymentInformation"]["deploymentId"] == "d1"
            assert agent.peer.all(agent.topic("results/com.cameras")) == []  # not on the local broker
            assert f" as {thing} " in site.cloud.broker.log
    assert {(asked.path, asked.headers["x-amzn-iot-thingname"]) for asked in provider.requests} == {
        ("/role-aliases/Devices/credentials", thing)
    }


# -- the link is cut ---------------------------------------------------------------------------------------------------

Arm = Callable[[Site], None]


def when(cue: Callable[[Word], bool]) -> Arm:
    """Cut when the service hears or says something, before anything comes of it."""
    return lambda site: site.on(cue, site.cut)


def answer_comes_and_next_is_lost(cue: Callable[[Word], bool]) -> Arm:
    """Let an answer through, and cut when the agent has said what follows from it."""

    def arm(site: Site) -> None:
        def stall() -> None:
            site.uplink.up.stall()
            site.uplink.up.after(A_REQUEST, site.cut)

        site.on(cue, stall)

    return arm


def downloading(site: Site) -> None:
    """Cut in the middle of the model."""
    site.do(lambda: site.downloads.down.after(150_000, site.cut))


def nothing_goes_up(cue: Callable[[Word], bool]) -> Arm:
    """Let the agent speak to nobody, without its knowing."""

    def arm(site: Site) -> None:
        def stall() -> None:
            site.uplink.up.stall()
            site.away.set()

        site.on(cue, stall)

    return arm


def standing_still(cue: Callable[[Word], bool]) -> Arm:
    """Carry nothing either way, and break nothing: the agent has to notice by itself."""

    def arm(site: Site) -> None:
        def stall() -> None:
            site.uplink.stall()
            site.away.set()

        site.on(cue, stall)

    return arm


@dataclass(frozen=True)
class Case:
    arm: Arm
    plain: bool = False
    """A job of the plain namespace, which knows start-next."""
    slow: bool = False
    stays_away: bool = False
    """Until the deployment is over on the device; else until the agent has noticed."""
    killed: bool = False
    silent: bool = False
    """Nothing tells that the link is gone: the agent has to notice."""
    forgotten: bool = False
    """The broker keeps no session."""
    ends: str = "SUCCESSFUL"


ENDED = (Status.SUCCEEDED, Status.FAILED, Status.REJECTED)
CASES = {
    "the question what is next is heard": Case(when(lambda word: word.asks("get"))),
    "the job is told": Case(when(lambda word: word.tells_a_job)),
    "the claim is lost": Case(answer_comes_and_next_is_lost(lambda word: word.tells_a_job)),
    "the claim is heard": Case(when(lambda word: word.at(""))),
    "start-next is heard": Case(when(lambda word: word.asks("start-next")), plain=True),
    "start-next is answered": Case(when(lambda word: word.tells_a_job), plain=True),
    "start-next came and what follows is lost": Case(
        answer_comes_and_next_is_lost(lambda word: word.tells_a_job), plain=True
    ),
    "the model comes": Case(downloading),
    "it is activated, until it is over": Case(when(lambda word: word.at("ACTIVATING")), slow=True, stays_away=True),
    "its end is lost": Case(nothing_goes_up(lambda word: word.at("VERIFYING")), slow=True, stays_away=True),
    "its end is heard": Case(when(lambda word: word.updates(*ENDED))),
    "the job is not made yet, and the session forgotten": Case(lambda site: site.do(site.cut), forgotten=True),
    "the claim is heard, and the session forgotten": Case(when(lambda word: word.at("")), forgotten=True),
    "its end is heard, and the session forgotten": Case(when(lambda word: word.updates(*ENDED)), forgotten=True),
    "nothing is carried any more": Case(standing_still(lambda word: word.at("")), silent=True),
    "the claim is heard, and killed": Case(when(lambda word: word.at("")), killed=True),
    "the model comes, and killed": Case(downloading, killed=True),
    "it is activated, and killed": Case(
        when(lambda word: word.at("ACTIVATING")), slow=True, killed=True, ends="FAILED_ROLLBACK_COMPLETE"
    ),
    "it is activated, and killed when it is over": Case(
        when(lambda word: word.at("ACTIVATING")), slow=True, stays_away=True, killed=True
    ),
    "its end is heard, and killed": Case(when(lambda word: word.updates(*ENDED)), stays_away=True, killed=True),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_deployment_whose_link_is_cut_ends_as_defined_and_is_reported_once(
    site, cloud, config, revision, thing, jobs, tmp_path, case: Case
):
    config["transports"]["cloud"] |= {"session_expiry_s": 0} if case.forgotten else {}
    config["transports"]["cloud"] |= {"keepalive_s": 5} if case.silent else {}
    # Who leaves other agents' jobs alone looks at one before it begins it.
    config["deployments"] |= {"foreign_jobs": "reject"} if case.plain else {}
    with agents.running(config, tmp_path) as agent:
        site.create(jobs[0], thing, revision(1))
        assert site.ended(jobs[0])["status"] == "SUCCEEDED"
        assert answering(agent, cloud) == "1.0.0"
        agent.peer.forget()
        case.arm(site)
        site.create(jobs[1], thing, revision(2, slow=case.slow), "" if case.plain else GREENGRASS)
        assert site.away.wait(PATIENCE_S), (agent.log, site.words)
        if case.stays_away:
            wait(lambda: over(agent, "d2"), agent)
        if case.killed:
            agent.stop(signal.SIGKILL)
        elif site.uplink.whole and not case.silent:
            site.do(site.cut)
        else:
            wait(lambda: offline(agent), agent)
        if not case.killed:
            check_end(site, cloud, agent, jobs[1], case)
            return
    with agents.running(config, tmp_path) as agent:
        check_end(site, cloud, agent, jobs[1], case)


def check_end(site: Site, cloud: Peer, agent: agents.Agent, job: str, case: Case) -> None:
    """Restore the link: the service hears once how it ended, and the set is the one that it was told of."""
    for _ in range(3):
        agent.frame("door", unruly.jpeg("answer"))
    site.restore()
    execution = site.ended(job)
    assert execution["statusDetails"]["detailed-deployment-status"] == case.ends
    check_history(site.history(job), execution["status"], 3 if case.plain else 2)
    good = case.ends == "SUCCESSFUL"
    assert (execution["status"], answering(agent, cloud)) == (("SUCCEEDED", "2.0.0") if good else ("FAILED", "1.0.0"))
    told = cloud.wait(agent.topic("deployments/d2"), lambda told: told["status"] != "IN_PROGRESS")
    assert told["detailedStatus"] == case.ends
    if not case.killed:  # who is killed may be so before it is on disk, and then says how everything is
        health = health_topic(agent.thing, "$aws")
        told = cloud.wait(health, lambda told: told.get("deploymentInformation", {}).get("deploymentId") == "d2")
        assert told["deploymentInformation"]["status"] == execution["status"]
    wait(lambda: len(results(agent, cloud)) >= 4, agent)
    sequences = [each["frame"]["sequence"] for each in results(agent, cloud)][-4:]
    assert sequences == list(range(sequences[0], sequences[0] + 4))


def test_what_happened_while_the_link_was_away_is_told_in_order_when_it_is_back(
    site, cloud, config, revision, thing, jobs, tmp_path
):
    with agents.running(config, tmp_path) as agent:
        site.on(lambda word: word.at("ACTIVATING"), site.cut)
        site.create(jobs[0], thing, revision(1, slow=True))
        assert site.away.wait(PATIENCE_S)
        wait(lambda: over(agent, "d1"), agent)
        for number in range(50):
            agent.frame(f"door-{number % 2}", unruly.jpeg("answer"))
        agent.settled(50, "com.cameras")
        cloud.forget()
        site.restore()
        assert site.ended(jobs[0])["status"] == "SUCCEEDED"
        wait(lambda: len(results(agent, cloud)) >= 50, agent)
    assert [step or status for status, step, _ in site.history(jobs[0])][-3:] == [
        "ACTIVATING",
        "VERIFYING",
        "SUCCEEDED",
    ]
    check_history(site.history(jobs[0]), "SUCCEEDED")
    told = [each.get("step", each["status"]) for each in cloud.all(agent.topic("deployments/d1"))]
    assert told == sorted(told, key=[*STEPS, "SUCCEEDED"].index)
    assert told[-1] == "SUCCEEDED"
    assert [each["frame"]["sequence"] for each in results(agent, cloud)] == list(range(1, 51))
    health = cloud.all(health_topic(thing, "$aws"))
    assert [each["sequenceNumber"] for each in health] == list(range(1, len(health) + 1))
    assert [each["trigger"] for each in health if "deploymentInformation" in each] == ["THING_GROUP_DEPLOYMENT"]


@pytest.mark.parametrize(
    ("topic", "stored"),
    [
        (health_topic("edge-1", "$aws"), True),
        ("verge/edge-1/results/line", True),
        ("$aws/things/edge-1/jobs/start-next", False),
        (f"{ShadowTopics('edge-1').base}/update", False),
    ],
)
def test_what_is_told_once_waits_on_disk_and_conversations_do_not(topic: str, stored: bool):
    assert route(OutboxOptions(), topic).stored == stored


def test_the_shadow_s_deployment_is_done_while_the_link_is_away_and_its_end_reported_when_it_is_back(
    site, cloud, config, revision, thing, tmp_path
):
    with site.shadow(thing) as shadow, agents.running(config, tmp_path) as agent:
        told = revision(1, slow=True)
        site.on(lambda word: word.heard and "reported" in word.told.get("state", {}), site.cut_uplink)
        site.do(lambda: shadow.put({"desired": {"fleetConfig": json.dumps(told), "desiredStatus": "SUCCEEDED"}}))
        assert site.away.wait(PATIENCE_S)
        wait(lambda: over(agent, told["configurationArn"]), agent)
        site.restore()
        wait(lambda: shadow.state["reported"].get("status") == "SUCCEEDED", agent)
        reported = [each["state"]["reported"] for each in shadow.updates]
        assert [each["status"] for each in reported] == ["IN_PROGRESS", "SUCCEEDED"]
        assert reported[-1]["fleetConfigurationArnForStatus"] == told["configurationArn"]
        assert reported[-1]["statusDetails"]["detailedStatus"] == "SUCCESSFUL"
        assert answering(agent, cloud) == "1.0.0"
