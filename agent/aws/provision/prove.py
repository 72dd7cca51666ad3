"""The proof that an identity works, before anything relies on it: connect as the thing, subscribe, publish."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from agent.aws.detached import detached
from agent.aws.provision.errors import ProvisioningError
from agent.config.transports import IotCoreOptions
from agent.errors import BrokerUnreachableError
from agent.mqtt.probe import Visitor
from agent.mqtt.reasons import CLOSED

__all__ = ["Proof", "prove"]

_PENDING = "the certificate may be inactive, or its policy does not allow iot:Connect on client/{}"
_REFUSED = frozenset(("not-authorized", CLOSED))
"""IoT Core hangs up without a word on a certificate that is not active."""
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Proof:
    """The permissions of an identity; a refusal is empty where there was none."""

    topic: str
    subscribing: str = ""
    publishing: str = ""

    def __str__(self) -> str:
        refused = [
            f"{verb} {self.topic}: {why.lower()}"
            for verb, why in (("subscribe", self.subscribing), ("publish", self.publishing))
            if why
        ]
        return "; ".join(refused) or f"connected, subscribed to {self.topic} and published there"


async def prove(options: IotCoreOptions, thing: str, *, patience_s: float = 10.0) -> Proof:
    """Connect as ``thing``; raises ``ProvisioningError`` or ``BrokerUnreachableError`` when it may not.

    A refused topic is in the proof and no error: the policy may be meant so.  A connection of the same thing is ended
    by this one and comes back by itself; messages that wait for it at the broker stay there.  A certificate that was
    made active a moment ago is not known everywhere yet: for ``patience_s`` it is tried again.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        try:
            # Nobody who leaves waits for a broker that does not answer.
            return await asyncio.wrap_future(detached(lambda: _prove(options, thing), "verge-prove"))
        except BrokerUnreachableError as error:
            if loop.time() + _AGAIN_S < deadline:
                await asyncio.sleep(_AGAIN_S)
                continue
            if error.code not in _REFUSED:
                raise
            raise ProvisioningError(error.message, code=error.code, hint=_PENDING.format(thing)) from error


def _prove(options: IotCoreOptions, thing: str) -> Proof:
    # A question that nobody answers without a response topic: harmless, and every agent's policy allows it.
    topic = f"verge/{thing}/deployments/get"
    with Visitor(options.asking("cloud", thing)) as visitor:
        return Proof(topic, visitor.subscribe(topic) or "", visitor.publish(topic) or "")
