"""Which of the topics that the agent needs it may really use: each broker is asked, topic by topic.

The role alias and the Greengrass data plane are asked beside them, since the same policy says who may use these.

Over IoT Core only the thing itself may ask, so it is asked with the agent's own client id, in its own session: an
agent that runs loses its connection for that moment and comes back by itself.  Other brokers are asked by a second
client.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from agent.aws.iot import IotCredentials
from agent.config.aws import AwsOptions
from agent.config.load import Config, load
from agent.doctor import dataplane
from agent.doctor.asking import Answer, Told, ask
from agent.doctor.finding import Finding
from agent.doctor.needs import Direction, Need, needs
from agent.errors import VergeError

__all__ = ["examine", "findings", "role"]

_ACTIONS = {
    Direction.SUBSCRIBE: "allow iot:Subscribe on topicfilter/{0} and iot:Receive on topic/{0}",
    Direction.PUBLISH: "allow iot:Publish on topic/{0}",
}
_NOT_AUTHORIZED = "not-authorized"


async def examine(path: Path) -> AsyncIterator[Finding]:
    """The findings for a configuration's file; one that cannot be read is the only finding."""
    try:
        found = await findings(load(path))
    except VergeError as error:
        found = [Finding.of("config", error)]
    for finding in found:
        yield finding


async def findings(config: Config) -> list[Finding]:
    """Of each broker: what it grants, what it refuses, and what could not be asked without doing harm."""
    wanted = needs(config)
    found: list[Finding] = []
    for name in config.transports:
        mine = [one for one in wanted if one.transport == name]
        found += await _broker(name, config, mine)
    return [*found, *await role(config.aws, config.thing), *await dataplane.findings(config.greengrass, config.aws)]


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


async def _broker(name: str, config: Config, wanted: list[Need]) -> list[Finding]:
    check = f"topics {name}"
    options = config.transports[name]
    if not wanted:
        return [Finding.ok(check, "none needed")]
    if options.own_client:
        fix = f"check the policy by hand: {'; '.join(_allowed(one) for one in wanted)}"
        return [Finding.warn(check, "only asked with cert_file and key_file, and without a proxy", fix)]
    asking, policies = options.asking(name, config.thing), options.security.rules == "iot-core"
    try:
        answers = await asyncio.to_thread(ask, asking, wanted)
    except VergeError as error:
        finding = Finding.of(check, error)
        if policies and error.code == _NOT_AUTHORIZED:
            finding = Finding.fail(check, error.message, f"allow iot:Connect on client/{asking.client_id}")
        return [finding]
    return list(_told(check, answers, iot=policies))


def _told(check: str, answers: Iterable[Answer], *, iot: bool) -> Iterable[Finding]:
    by_told: dict[Told, list[Answer]] = {each: [] for each in Told}
    for answer in answers:
        by_told[answer.told].append(answer)
    granted = [answer.need.direction for answer in (*by_told[Told.GRANTED], *by_told[Told.UNHEARD])]
    counts = ", ".join(f"{granted.count(each)} to {each}" for each in Direction)
    yield Finding.ok(check, f"granted: {counts}")
    for answer in by_told[Told.REFUSED]:
        need = answer.need
        said = f"{need.direction} {need.topic}: {answer.reason.lower()} ({need.why})"
        yield Finding.fail(check, said, _allowed(need) if iot else "allow it in the broker's access rules")
    for answer in by_told[Told.UNHEARD]:
        yield _unheard(check, answer, iot=iot)
    silent = by_told[Told.NOT_ASKED]
    if silent:
        told = "; ".join(f"{answer.need.direction} {answer.need.topic} ({answer.reason})" for answer in silent)
        yield Finding.ok(check, f"not asked: {told}")


def _unheard(check: str, answer: Answer, *, iot: bool) -> Finding:
    need, probe = answer.need, answer.need.probe
    assert probe is not None  # noqa: S101 what was published
    rule = f"allow iot:Receive on topic/{probe.answer}" if iot else f"let the agent read {probe.answer}"
    if probe.answer == probe.topic:
        return Finding.fail(check, f"{answer.reason}, though it was sent there and subscribed to", rule)
    return Finding.warn(
        check, f"{answer.reason} ({need.why})", f"{rule}; or nobody serves this broker's jobs and shadows"
    )


def _allowed(need: Need) -> str:
    """What an IoT policy has to say; MQTT's wildcards are written as policies write them."""
    topic = need.topic.replace("+", "*").replace("#", "*")
    told = _ACTIONS[need.direction].format(topic)
    return f"{told}, and iot:RetainPublish" if need.retain else told
