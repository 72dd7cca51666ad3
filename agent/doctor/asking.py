"""A broker, asked need by need what the agent may do; blocking, for a thread.

Shared subscriptions are not asked for, since they take messages from others of the group.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from agent.config.transports import MqttOptions
from agent.doctor.needs import Direction, Need
from agent.mqtt.probe import Visitor
from agent.topics import matches

__all__ = ["Answer", "Told", "ask"]

_ECHO_S = 2.0
"""How long what may be sent may take to come back."""


class Told(enum.Enum):
    """What a broker tells of a need."""

    GRANTED = enum.auto()
    REFUSED = enum.auto()
    UNHEARD = enum.auto()
    """It may be published, but what should come back does not."""
    NOT_ASKED = enum.auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """A need, and what the broker tells of it."""

    need: Need
    told: Told
    reason: str = ""


def ask(options: MqttOptions, needs: Sequence[Need]) -> list[Answer]:
    """The broker's answers in the order of ``needs``; raises ``BrokerUnreachableError`` and ``ConfigError``."""
    with Visitor(options) as visitor:
        # First all subscriptions: what is published then may come back on one of them.
        heard = {one.topic: _subscribed(visitor, one) for one in needs if one.direction is Direction.SUBSCRIBE}
        granted = [topic for topic, one in heard.items() if one.told is Told.GRANTED]
        return [
            heard[one.topic] if one.direction is Direction.SUBSCRIBE else _published(visitor, one, granted)
            for one in needs
        ]


def _subscribed(visitor: Visitor, need: Need) -> Answer:
    if need.topic.startswith("$share/"):
        return Answer(need, Told.NOT_ASKED, "it would take messages from others of the group")
    refusal = visitor.subscribe(need.topic)
    return Answer(need, Told.GRANTED) if refusal is None else Answer(need, Told.REFUSED, refusal)


def _published(visitor: Visitor, need: Need, granted: Sequence[str]) -> Answer:
    probe = need.probe
    if probe is None:
        return Answer(need, Told.NOT_ASKED, "no message there is harmless")
    if not visitor.five:
        return Answer(need, Told.NOT_ASKED, "MQTT 3.1.1 does not tell")
    refusal = visitor.publish(probe.topic, probe.payload, retain=probe.retain)
    if refusal is not None:
        return Answer(need, Told.REFUSED, refusal)
    listens = probe.answer and any(matches(each, probe.answer) for each in granted)
    if listens and not visitor.hears(probe.answer, _ECHO_S):
        return Answer(need, Told.UNHEARD, f"nothing came on {probe.answer}")
    return Answer(need, Told.GRANTED)
