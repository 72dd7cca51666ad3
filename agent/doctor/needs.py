"""The one list of the topics that a configuration needs on its brokers.  Pure.

A need's topic may hold wildcards where a part of it is known only later: a job's id, a component's name.  The response
topics of MQTT 5 are a sender's own choice and no need of the agent.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.aws.jobs.topics import GREENGRASS, JobTopics, ShadowTopics
from agent.config.deployments import DeploymentOptions
from agent.config.load import Config
from agent.config.streams import StreamOptions
from agent.greengrass.deployments.requesters import QUERY
from agent.greengrass.fleet.service import health_topic
from agent.topics import Topics, level

__all__ = ["Direction", "Need", "Probe", "needs"]

_FIELD = re.compile(r"[^/]*\{(?:camera|label)\}[^/]*")
_DOCTOR = "verge-doctor"
"""In place of a name that is known only later, where a broker is asked."""


class Direction(enum.StrEnum):
    """Which way messages go."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


@dataclass(frozen=True, slots=True)
class Probe:
    """A message that does no harm, to find out whether it may be sent; an answer comes on ``answer``, if anywhere."""

    topic: str
    payload: bytes = b""
    retain: bool = False
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """One topic that the agent uses on one transport, and why."""

    transport: str
    direction: Direction
    topic: str
    why: str
    retain: bool = False
    probe: Probe | None = None
    """How to find out whether the agent may publish; None where no message is harmless."""


def needs(config: Config) -> tuple[Need, ...]:
    """Every need of the configuration, without repeats, in the order of its tables."""
    topics = Topics(config.thing, config.status.prefix)
    required = [*_status(config, topics)]
    for name, stream in config.streams.items():
        required += _stream(config, name, stream)
    if config.deployments is not None:
        transport = config.deployments.transport or config.first_transport
        required += _documents(topics.base, transport)
        required += _aws(config.thing, config.deployments, transport)
    sent = [_ingested(one, config) for one in required]
    return tuple({(one.transport, one.direction, one.topic): one for one in reversed(sent)}.values())[::-1]


def _status(config: Config, topics: Topics) -> Iterator[Need]:
    transport = config.status.transport or config.first_transport
    # The retained status must not be touched: an empty message would erase it.
    yield Need(transport, Direction.PUBLISH, topics.status, "status and last will", retain=True)
    components, streams = topics.component(_DOCTOR), topics.stream(_DOCTOR)
    yield _retained(transport, f"{topics.base}/components/+", components, "the state of what runs")
    yield _retained(transport, f"{topics.base}/streams/+", streams, "the counters of streams")
    links = topics.transport(_DOCTOR)
    yield _retained(transport, f"{topics.base}/transports/+", links, "the state of links and what waits for them")


def _stream(config: Config, name: str, stream: StreamOptions) -> Iterator[Need]:
    source = stream.input.transport or config.first_transport
    if stream.input.topic:
        yield Need(source, Direction.SUBSCRIBE, stream.input.topic, f"frames of stream {name}")
    for output in stream.outputs:
        if output.file is None:
            topic = _template(output.topic, config.thing, name)
            why = f"results of stream {name}"
            yield Need(output.transport or source, Direction.PUBLISH, topic, why, retain=output.retain)
    if stream.snapshots is not None and stream.snapshots.topic:
        snapshots, topic = stream.snapshots, _template(stream.snapshots.topic, config.thing, name)
        why = f"snapshots of stream {name}"
        yield Need(snapshots.transport or source, Direction.PUBLISH, topic, why, retain=snapshots.retain)


def _documents(base: str, transport: str) -> Iterator[Need]:
    inbox = f"{base}/deployments"
    yield Need(transport, Direction.SUBSCRIBE, inbox, "deployment documents")
    yield Need(transport, Direction.SUBSCRIBE, f"{inbox}/{QUERY}", "questions before a deployment")
    yield _retained(transport, f"{inbox}/+", f"{inbox}/{QUERY}", "progress and outcome of deployments", subscribed=True)


def _aws(thing: str, options: DeploymentOptions, transport: str) -> Iterator[Need]:
    if options.jobs:
        for namespace in ("", GREENGRASS):
            topics = JobTopics(thing, options.aws_prefix, namespace)
            yield from _jobs(topics, transport, begins=options.foreign_jobs == "reject")
    if options.shadow:
        yield from _shadow(ShadowTopics(thing, options.aws_prefix), transport)
    if options.health:
        # Whoever takes fleet status messages would take anything there for one.
        yield Need(transport, Direction.PUBLISH, health_topic(thing, options.aws_prefix), "fleet status")


def _jobs(topics: JobTopics, transport: str, *, begins: bool) -> Iterator[Need]:
    kind = "Greengrass jobs" if topics.namespace else "jobs"
    for topic_filter in topics.filters:
        yield Need(transport, Direction.SUBSCRIBE, topic_filter, f"{kind}: answers and news")
    ask = topics.describe_next
    asking = Probe(ask, b'{"includeJobDocument":false,"clientToken":"verge-doctor"}', answer=f"{ask}/+")
    yield Need(transport, Direction.PUBLISH, ask, f"{kind}: which one is next", probe=asking)
    if not topics.namespace and not begins:
        listing = Probe(topics.pending, b'{"clientToken":"verge-doctor"}', answer=f"{topics.pending}/+")
        yield Need(transport, Direction.PUBLISH, topics.pending, f"{kind}: which ones are pending", probe=listing)
        # Of a job that is not there, as below.
        one = Probe(topics.describe(_DOCTOR), b'{"clientToken":"verge-doctor"}')
        yield Need(transport, Direction.PUBLISH, topics.describe("+"), f"{kind}: how one stands", probe=one)
    elif not topics.namespace:
        # To ask is to begin: this cannot be tried.
        yield Need(transport, Direction.PUBLISH, topics.start_next, f"{kind}: begin the next one")
    # Of a job that is not there: it is rejected, and nothing else happens.
    update = Probe(topics.update(_DOCTOR), b'{"status":"IN_PROGRESS","clientToken":"verge-doctor"}')
    yield Need(transport, Direction.PUBLISH, topics.update("+"), f"{kind}: how one stands", probe=update)


def _shadow(topics: ShadowTopics, transport: str) -> Iterator[Need]:
    for topic_filter in topics.filters:
        yield Need(transport, Direction.SUBSCRIBE, topic_filter, "deployment shadow: answers and news")
    yield Need(
        transport, Direction.PUBLISH, topics.get, "deployment shadow: what is wanted",
        probe=Probe(topics.get, answer=f"{topics.get}/+"),
    )  # fmt: skip
    # An update without a state is rejected and changes nothing.
    yield Need(
        transport, Direction.PUBLISH, topics.update, "deployment shadow: how it stands",
        probe=Probe(topics.update, b'{"clientToken":"verge-doctor"}'),
    )  # fmt: skip


def _retained(transport: str, topic: str, stand_in: str, why: str, *, subscribed: bool = False) -> Need:
    """A retained topic; an empty retained message erases what is retained, and there is nothing on the stand-in."""
    probe = Probe(stand_in, retain=True, answer=stand_in if subscribed else "")
    return Need(transport, Direction.PUBLISH, topic, why, retain=True, probe=probe)


def _ingested(need: Need, config: Config) -> Need:
    """The need with the topic that Basic Ingest makes of its own."""
    if need.direction is Direction.SUBSCRIBE:
        return need
    return replace(need, topic=config.transports[need.transport].topic_used(need.topic, retain=need.retain))


def _template(template: str, thing: str, stream: str) -> str:
    """A sink's template as a filter: what is known only with a result becomes any one level."""
    return _FIELD.sub("+", template).format(thing=level(thing), stream=level(stream))
