"""Each broker, reached as the agent would: its limits, and the topics of streams that they exclude."""

from __future__ import annotations

import asyncio
from time import perf_counter

from agent.config.load import Config
from agent.doctor.finding import Finding, size
from agent.errors import VergeError
from agent.mqtt.limits import MAX_PACKET_BYTES, BrokerLimits
from agent.mqtt.visit import Visit

__all__ = ["findings", "limits"]


async def findings(config: Config) -> list[Finding]:
    """All brokers at once: those that are not there are waited for together."""
    return list(await asyncio.gather(*(_broker(name, config) for name in config.transports)))


async def _broker(name: str, config: Config) -> Finding:
    check = f"broker {name}"
    try:
        visit = Visit(name, config.transports[name], "doctor")
        began = perf_counter()
        async with visit:
            await visit.reach()
            took_ms = (perf_counter() - began) * 1e3
    except VergeError as error:
        return Finding.of(check, error)
    detail = f"{visit.options.address} connected in {took_ms:.0f} ms; {limits(visit.limits)}"
    for stream, options in config.streams.items():
        source = options.input
        objection = visit.limits.objection(source.topic)
        if objection and (source.transport or config.first_transport) == name:
            fix = f"stream {stream} asks for {source.topic}: name its topics without wildcards, or use another broker"
            return Finding.fail(check, f"{detail}; {objection}", fix)
    if not visit.limits.maximum_qos:
        return Finding.warn(
            check, detail, "results are sent with QoS 0: they can be lost; raise the broker's maximum QoS"
        )
    return Finding.ok(check, detail)


def limits(broker: BrokerLimits) -> str:
    """The broker's limits in words."""
    missing = [
        word
        for word, there in (
            ("retained messages", broker.retain_available),
            ("wildcards", broker.wildcard_available),
            ("shared subscriptions", broker.shared_available),
        )
        if not there
    ]
    version = {4: "3.1.1"}.get(broker.version, str(broker.version))
    words = [
        f"MQTT {version}",
        f"QoS {broker.maximum_qos}",
        "packets of any size"
        if broker.maximum_packet_size >= MAX_PACKET_BYTES
        else f"packets up to {size(broker.maximum_packet_size)}",
        f"{broker.receive_maximum} in flight",
        *(f"no {word}" for word in missing),
    ]
    return ", ".join(words)
