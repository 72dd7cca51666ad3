"""Which of the topics that the agent needs it may really use: each broker is asked, topic by topic.

The role alias and the Greengrass data plane are asked beside them, since the same policy says who may use these.

Over IoT Core only the thing itself may ask, so it is asked with the agent's own client id, in its own session: an
agent that runs loses its connection for that moment and comes back by itself.  Other brokers are asked by a second
client.  Shared subscriptions are not asked for, since they take messages from others of the group.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.aws.iot import IotCredentials
from agent.config.aws import AwsOptions, GreengrassOptions
from agent.config.deployments import RetryPolicy
from agent.config.load import Config, load
from agent.config.transports import MqttOptions
from agent.doctor.finding import Finding
from agent.doctor.needs import Direction, Need, needs
from agent.errors import VergeError
from agent.greengrass.cloud.client import DataPlane
from agent.greengrass.cloud.messages import DataPlaneOperation, Question
from agent.greengrass.recipes import platform
from agent.greengrass.recipes.versions import Requirement
from agent.mqtt.probe import Visitor
from agent.topics import matches

__all__ = ["data_plane", "examine", "findings", "role"]

_ACTIONS = {
    Direction.SUBSCRIBE: "allow iot:Subscribe on topicfilter/{0} and iot:Receive on topic/{0}",
    Direction.PUBLISH: "allow iot:Publish on topic/{0}",
}
_NOT_AUTHORIZED = "not-authorized"
_ECHO_S = 2.0
"""How long a message that was sent may take to come back."""
_ONCE: Final = RetryPolicy(give_up_after_s=0.0)
_NOBODY_HAS: Final = "verge.doctor"
_UNKNOWN: Final = "RESOURCE_NOT_FOUND"


async def examine(path: Path) -> AsyncIterator[Finding]:
    """The findings for a configuration's file; one that cannot be read is the only finding."""
    try:
        results = await findings(load(path))
    except VergeError as error:
        results = [Finding.of("config", error)]
    for finding in results:
        yield finding


async def findings(config: Config) -> list[Finding]:
    """Of each broker: the topics that it grants, those that it refuses, and those that no harmless message tries."""
    required = needs(config)
    results: list[Finding] = []
    for name in config.transports:
        results += await _broker(name, config, [need for need in required if need.transport == name])
    return [*results, *await role(config.aws, config.thing), *await data_plane(config.greengrass, config.aws)]


async def role(options: AwsOptions | None, thing: str) -> list[Finding]:
    """Whether the credentials of the configured role alias can be had."""
    try:
        provider = IotCredentials.of(options, thing) if options is not None else None
        if provider is None:
            return []
        await asyncio.to_thread(provider.get)
    except VergeError as error:
        return [Finding.of("role alias", error)]
    return [Finding.ok("role alias", "its credentials can be had")]


async def data_plane(options: GreengrassOptions, aws: AwsOptions | None) -> list[Finding]:
    """Whether the Greengrass data plane answers this device and allows both requests, made for a component nobody has.

    No finding where the cloud is not asked.  ``options`` are ``filled``.
    """
    if not options.enabled:
        return []
    plane = DataPlane(options, retry=_ONCE, short_retry=_ONCE)
    question = Question(_NOBODY_HAS, (("verge-doctor", Requirement.parse("*")),))
    resolved = await _allowed_by_cloud(DataPlaneOperation.RESOLVE, plane.resolve(question, platform.detect()))
    region, account = (aws.place(), aws.account) if aws else (None, "")
    if not (region and account):
        missing = Finding.ok(
            f"greengrass {DataPlaneOperation.ARTIFACT}", "not asked: aws.region or aws.account is missing"
        )
        return [resolved, missing]
    arn = f"arn:aws:greengrass:{region}:{account}:components:{_NOBODY_HAS}:versions:1.0.0"
    return [resolved, await _allowed_by_cloud(DataPlaneOperation.ARTIFACT, plane.artifact_url(arn, "nothing"))]


async def _allowed_by_cloud(operation: DataPlaneOperation, request: Awaitable[object]) -> Finding:
    check = f"greengrass {operation}"
    try:
        await request
    except VergeError as error:
        if error.code != _UNKNOWN:
            return Finding.of(check, error)
    return Finding.ok(check, "allowed")


# -- one broker -----------------------------------------------------------------------------------------------


async def _broker(name: str, config: Config, required: list[Need]) -> list[Finding]:
    check = f"topics {name}"
    options = config.transports[name]
    if not required:
        return [Finding.ok(check, "none needed")]
    policies = options.security.rules == "iot-core"
    if options.own_client:
        rules = (_rule(need) if policies else f"{need.direction} {need.topic}" for need in required)
        fix = f"check by hand that it may: {'; '.join(rules)}"
        return [Finding.warn(check, f"not asked: the broker is reached {options.own_client}, by the agent alone", fix)]
    asking = options.asking(name, config.thing)
    try:
        permissions = await asyncio.to_thread(_ask, asking, required)
    except VergeError as error:
        finding = Finding.of(check, error)
        if policies and error.code == _NOT_AUTHORIZED:
            finding = Finding.fail(check, error.message, f"allow iot:Connect on client/{asking.client_id}")
        return [finding]
    return list(_judged(check, permissions, iot=policies))


def _judged(check: str, permissions: Iterable[_Permission], *, iot: bool) -> Iterable[Finding]:
    by_verdict: dict[_Verdict, list[_Permission]] = {verdict: [] for verdict in _Verdict}
    for permission in permissions:
        by_verdict[permission.verdict].append(permission)
    granted = [one.need.direction for one in (*by_verdict[_Verdict.GRANTED], *by_verdict[_Verdict.UNANSWERED])]
    counts = ", ".join(f"{granted.count(direction)} to {direction}" for direction in Direction)
    yield Finding.ok(check, f"granted: {counts}")
    for refused in by_verdict[_Verdict.REFUSED]:
        need = refused.need
        detail = f"{need.direction} {need.topic}: {refused.reason.lower()} ({need.why})"
        yield Finding.fail(check, detail, _rule(need) if iot else "allow it in the broker's access rules")
    for unanswered in by_verdict[_Verdict.UNANSWERED]:
        yield _unanswered(check, unanswered, iot=iot)
    if untried := by_verdict[_Verdict.NOT_ASKED]:
        listed = "; ".join(f"{one.need.direction} {one.need.topic} ({one.reason})" for one in untried)
        yield Finding.ok(check, f"not asked: {listed}")


def _unanswered(check: str, permission: _Permission, *, iot: bool) -> Finding:
    need, probe = permission.need, permission.need.probe
    assert probe is not None  # noqa: S101 it was published
    rule = f"allow iot:Receive on topic/{probe.answer}" if iot else f"let the agent read {probe.answer}"
    if probe.answer == probe.topic:
        return Finding.fail(check, f"{permission.reason}, though it was sent there and subscribed to", rule)
    return Finding.warn(
        check, f"{permission.reason} ({need.why})", f"{rule}; or nobody serves this broker's jobs and shadows"
    )


def _rule(need: Need) -> str:
    """The statement that an IoT policy needs; MQTT's wildcards are written as policies write them."""
    topic = need.topic.replace("+", "*").replace("#", "*")
    rule = _ACTIONS[need.direction].format(topic)
    return f"{rule}, and iot:RetainPublish" if need.retain else rule


# -- asking it, need by need; blocking, for a thread ----------------------------------------------------------


class _Verdict(enum.Enum):
    """A broker's answer about a need."""

    GRANTED = enum.auto()
    REFUSED = enum.auto()
    UNANSWERED = enum.auto()
    """It may be published, but the message that should come back does not."""
    NOT_ASKED = enum.auto()


@dataclass(frozen=True, slots=True)
class _Permission:
    """A need, and the broker's answer about it."""

    need: Need
    verdict: _Verdict
    reason: str = ""


def _ask(options: MqttOptions, required: Sequence[Need]) -> list[_Permission]:
    """The broker's answers in the order of the needs; raises ``BrokerUnreachableError`` and ``ConfigError``."""
    with Visitor(options) as visitor:
        # First all subscriptions: a message that is published then may come back on one of them.
        subscribed = {
            need.topic: _subscribed(visitor, need) for need in required if need.direction is Direction.SUBSCRIBE
        }
        granted = [topic for topic, one in subscribed.items() if one.verdict is _Verdict.GRANTED]
        return [
            subscribed[need.topic] if need.direction is Direction.SUBSCRIBE else _published(visitor, need, granted)
            for need in required
        ]


def _subscribed(visitor: Visitor, need: Need) -> _Permission:
    if need.topic.startswith("$share/"):
        return _Permission(need, _Verdict.NOT_ASKED, "it would take messages from others of the group")
    refusal = visitor.subscribe(need.topic)
    return _Permission(need, _Verdict.GRANTED) if refusal is None else _Permission(need, _Verdict.REFUSED, refusal)


def _published(visitor: Visitor, need: Need, granted: Sequence[str]) -> _Permission:
    probe = need.probe
    if probe is None:
        return _Permission(need, _Verdict.NOT_ASKED, "no message there is harmless")
    if not visitor.five:
        return _Permission(need, _Verdict.NOT_ASKED, "MQTT 3.1.1 does not tell")
    refusal = visitor.publish(probe.topic, probe.payload, retain=probe.retain)
    if refusal is not None:
        return _Permission(need, _Verdict.REFUSED, refusal)
    listens = probe.answer and any(matches(topic_filter, probe.answer) for topic_filter in granted)
    if listens and not visitor.receives(probe.answer, _ECHO_S):
        return _Permission(need, _Verdict.UNANSWERED, f"nothing came on {probe.answer}")
    return _Permission(need, _Verdict.GRANTED)
