"""The question whether deployments are taken here, and what is live: what a person's tools ask before they deploy.

A request on ``…/deployments/get`` with an MQTT 5 response topic is answered; an answer also says that documents are
heard, which a retained ``online`` does not.  It tells nothing that is not retained on the broker anyway::

    {"thing": "press-7", "components": {"com.acme.detect": "1.2.0"}, "previous": {"com.acme.detect": "1.1.0"}}

``previous`` is the set that a rollback goes back to, null where there is none.
"""

from __future__ import annotations

import msgspec

from agent.greengrass.deployments.plan import Kind
from agent.greengrass.deployments.state import State
from agent.mqtt.transport import Message

__all__ = ["REQUEST", "answer"]

REQUEST = "get"
"""The last level of the request's topic."""


def answer(request: Message, thing: str, state: State, previous: State | None) -> Message | None:
    """The answer to a request; None for one that does not tell where to."""
    if not request.response_topic:
        return None
    told = {"thing": thing, "components": _versions(state), "previous": _versions(previous) if previous else None}
    return Message(
        request.response_topic,
        msgspec.json.encode(told),
        qos=1,
        content_type="application/json",
        correlation_data=request.correlation_data,
    )


def _versions(state: State) -> dict[str, str]:
    components = state.active.components
    return {name: str(each.recipe.version) for name, each in components.items() if each.kind is not Kind.BUILTIN}
