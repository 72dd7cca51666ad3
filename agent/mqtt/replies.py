"""Where answers may go.

Who sends a request names the topic of its answer (MQTT 5.0, section 4.10), and the agent publishes there with rights
that the sender may not have: on another agent's topic of documents, on a retained status, on one of AWS's.  So an
answer goes only below the topics of answers that the configuration names, and never, whatever it names, to a topic with
a meaning of its own: one that begins with ``$``, or that has a level on which agents take documents or report.

A request that names another topic is not answered.  That is counted, and logged at most once in ``_QUIET_S`` seconds.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Final

from agent.mqtt.transport import Message
from agent.topics import RESPONSE_TOPICS, matches, valid_topic

__all__ = ["REFUSED", "AnswerTopics", "Answering"]

log = logging.getLogger(__name__)

REFUSED = "response-topic-refused"
"""The reason of an answer that was not sent, as it is counted."""
_MEANT: Final = frozenset(
    ("deployments", "status", "components", "streams", "transports", "jobs", "shadow", "trust", "infer")
)
"""Levels on which agents take documents, orders and requests, or retain how they are."""
_QUIET_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class AnswerTopics:
    """The filters below which answers may go."""

    filters: tuple[str, ...] = RESPONSE_TOPICS

    def objection(self, topic: str) -> str:
        """Why no answer goes to ``topic``; empty where one may.

        >>> answers = AnswerTopics(("+/answers/#",))
        >>> answers.objection("line-3/answers/7")
        ''
        >>> answers.objection("elsewhere")
        'it is under none of response_topics (+/answers/#)'
        >>> AnswerTopics(("#",)).objection("verge/line-4/deployments")
        'deployments is a level with a meaning of its own'
        """
        if not valid_topic(topic):
            return "it is no topic"
        if topic.startswith("$"):
            return "topics that begin with $ have a meaning of their own"
        if meant := _MEANT.intersection(topic.split("/")):
            return f"{min(meant)} is a level with a meaning of its own"
        if not any(matches(topic_filter, topic) for topic_filter in self.filters):
            return f"it is under none of response_topics ({', '.join(self.filters)})"
        return ""


class Answering:
    """Requests as they may be answered, and how many may not."""

    def __init__(self, topics: AnswerTopics) -> None:
        self.refused = 0
        self._topics = topics
        self._told = 0
        self._quiet_until = 0.0

    def checked(self, request: Message) -> Message:
        """The request; without its response topic where no answer may go there."""
        if not request.response_topic:
            return request
        objection = self._topics.objection(request.response_topic)
        if not objection:
            return request
        self.refused += 1
        self._tell(request, objection)
        return replace(request, response_topic=None)

    def _tell(self, request: Message, objection: str) -> None:
        now = time.monotonic()
        if now < self._quiet_until:
            return
        more = self.refused - self._told - 1
        self._quiet_until, self._told = now + _QUIET_S, self.refused
        log.warning(
            "what came on %r wants its answer on %r and gets none: %s%s",
            request.topic, request.response_topic, objection, f"; {more} more since the last line" if more else "",
        )  # fmt: skip
