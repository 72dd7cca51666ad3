"""Who may deploy: what the broker of deployments is worth, tried as a stranger would, and what the owner allows."""

from __future__ import annotations

from dataclasses import replace

from agent.config.load import Config
from agent.doctor.finding import Finding
from agent.greengrass.trust.policy import FROM_ANYONE, Link, TrustPolicy
from agent.greengrass.trust.watch import document_topics
from agent.mqtt.strangers import Strangers, tried
from agent.topics import Topics

__all__ = ["findings"]

_CHECK = "deployers"


async def findings(config: Config) -> list[Finding]:
    """One finding where deployments are taken, none elsewhere."""
    options = config.deployments
    if options is None:
        return []
    name = options.transport or config.first_transport
    transport = config.transports[name]
    link = Link.of(transport)
    if link.turns_on_strangers:
        topics = document_topics(Topics(config.thing, config.status.prefix), config.thing, options)
        link = replace(link, tried=await tried(transport.visiting(name), topics))
    unsigned = TrustPolicy(link, options.accept).unsigned
    found = f" ({link.tried.finding})" if link.tried.finding else ""
    if unsigned.accepted and options.accept in FROM_ANYONE:
        fix = 'accept = "trusted-links" asks for a password or a signature; README.md says how a broker gets one'
        return [Finding.warn(_CHECK, f"{unsigned.said}{found}", fix)]
    if unsigned.accepted:
        return [Finding.ok(_CHECK, f"{unsigned.said}{found}")]
    if options.accept == "signed":
        return [Finding.ok(_CHECK, unsigned.said)]
    grade = Finding.fail if link.tried.strangers is Strangers.LET_IN else Finding.warn
    return [grade(_CHECK, unsigned.said, unsigned.hint)]
