"""A Greengrass nucleus behind the ``Transport`` seam: what it gives its components of local topics and of IoT Core.

Subscribers, the send queue and both halves are those of every broker's transport.  A nucleus that restarts starts its
components anew, so what is kept is for a socket that drops: subscriptions, and what it has not taken.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from agent.config.transports import NucleusOptions
from agent.errors import ConfigError
from agent.mqtt.client import BrokerTransport
from agent.mqtt.greengrass.connection import Access, NucleusConnection
from agent.mqtt.greengrass.places import NucleusLimits, Pauses
from agent.mqtt.limits import BrokerLimits
from agent.mqtt.receiving import Receiving
from agent.mqtt.sending import Sending
from agent.mqtt.transport import Counts, LinkState, Message

__all__ = ["SOCKET", "TOKEN", "GreengrassTransport"]

log = logging.getLogger("agent.mqtt.greengrass")

SOCKET: Final = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
TOKEN: Final = "SVCUID"  # noqa: S105 the name of a variable
"""Where a component finds the nucleus and who it is there."""


class GreengrassTransport(BrokerTransport):
    """A ``Transport`` through a Greengrass nucleus; ``will`` is nobody's to publish, for a nucleus knows none.

    Raises ``ConfigError`` where neither the options nor the environment say where the nucleus is.
    """

    def __init__(
        self,
        name: str,
        options: NucleusOptions,
        *,
        will: Message | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.options = options
        access = Access(
            options.socket or _given(environment, SOCKET, name, "socket"),
            options.token or _given(environment, TOKEN, name, "token"),
            options.connect_timeout_s, options.backoff_base_s, options.backoff_cap_s,
        )  # fmt: skip
        limits = NucleusLimits.of(options.local_topics, options.max_payload_bytes)
        if will is not None:
            log.info("%s: a nucleus has no last will; %r stays as it is when the agent is killed", name, will.topic)
        super().__init__(name, options, partial(self._connect, access, limits), limits=limits, pacing=Pauses())

    def _connect(
        self,
        access: Access,
        limits: NucleusLimits,
        sending: Sending,
        receiving: Receiving,
        on_change: Callable[[LinkState, BrokerLimits | None], None],
    ) -> NucleusConnection:
        self._nucleus = NucleusConnection(access, limits, sending, receiving, on_change)
        return self._nucleus

    @property
    def counts(self) -> Counts:
        """Messages postponed (until the nucleus had room) and unreadable (events without a message).

        And what every link does.
        """
        messages = {"postponed": self._sending.postponed, "unreadable": self._nucleus.unreadable}
        return {"messages": messages, **super().counts}


def _given(environment: Mapping[str, str], variable: str, name: str, key: str) -> str:
    value = environment.get(variable, "")
    if not value:
        raise ConfigError(
            f"transport {name} finds no Greengrass nucleus: {variable} is not set",
            code="no-nucleus",
            hint=f"have a nucleus run the agent as a component, or set {key}",
            path=key,
        )
    return value
