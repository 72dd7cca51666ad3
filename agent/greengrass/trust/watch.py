"""Whether the broker of deployments keeps strangers out, tried at each connection.

What a broker on this machine is worth is only known by trying, and may change whenever it was away.  So with each
connection what was found before counts no more; strangers are tried anew, at longer and longer intervals where it
cannot be told; and whoever decides on documents is informed.  Brokers elsewhere, and those that do not ask the agent
who it is, are not tried: nothing would come of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from agent.aws.jobs.topics import JobTopics, ShadowTopics
from agent.config.deployments import DeploymentOptions
from agent.config.transports import MqttOptions
from agent.greengrass.trust.policy import Link
from agent.mqtt.strangers import UNTRIED, StrangerReport, Strangers, tried
from agent.mqtt.transport import LinkState, Transport
from agent.topics import Topics

__all__ = ["LinkWatch", "control_topics", "document_topics"]

_FIRST_S, _LONGEST_S = 2.0, 300.0


def document_topics(topics: Topics, thing: str, options: DeploymentOptions) -> tuple[str, ...]:
    """One topic of each kind that documents come by; what is no document there is not looked at."""
    jobs = (f"{JobTopics(thing, options.aws_prefix).update('verge-canary')}/verge-canary",) if options.jobs else ()
    shadow = (f"{ShadowTopics(thing, options.aws_prefix).update}/verge-canary",) if options.shadow else ()
    return (topics.deployments, *jobs, *shadow)


def control_topics(topics: Topics, thing: str, options: DeploymentOptions) -> tuple[str, ...]:
    """What the topics begin with on which the agent obeys whoever may publish there."""
    prefix = options.aws_prefix
    return (topics.deployments, topics.trust, JobTopics(thing, prefix).base, ShadowTopics(thing, prefix).base)


class LinkWatch:
    """Tries the broker of ``options`` while it runs; ``found`` is called with the link as it is known from then on."""

    def __init__(
        self, transport: Transport, options: MqttOptions, topics: Sequence[str], found: Callable[[Link], None]
    ) -> None:
        self._transport = transport
        self._options = options
        self._topics = tuple(topics)
        self._found = found
        self._link = Link.of(options)
        self._connected = asyncio.Event()
        transport.watch(self._on_link)
        if transport.state.connected:
            self._connected.set()

    async def run(self) -> None:
        """Try until cancelled."""
        while True:
            await self._connected.wait()
            self._connected.clear()
            self._set(UNTRIED)
            pause_s = _FIRST_S
            while not self._connected.is_set():
                report = await tried(self._options, self._topics)
                self._set(report)
                again = report.strangers is Strangers.UNCLEAR and self._transport.state.connected
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s if again else None):
                        await self._connected.wait()
                pause_s = min(2 * pause_s, _LONGEST_S)

    def _on_link(self, state: LinkState) -> None:
        if state.connected:
            self._connected.set()
            self._set(UNTRIED)

    def _set(self, report: StrangerReport) -> None:
        if report != self._link.tried:
            self._link = replace(self._link, tried=report)
            self._found(self._link)
