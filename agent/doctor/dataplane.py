"""Whether the Greengrass data plane answers this device, and allows it both requests: asked about what nobody has."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from agent.config.aws import AwsOptions, GreengrassOptions
from agent.config.deployments import RetryPolicy
from agent.doctor.finding import Finding
from agent.errors import VergeError
from agent.greengrass.cloud.client import DataPlane
from agent.greengrass.cloud.messages import Operation, Question
from agent.greengrass.recipes import platform
from agent.greengrass.recipes.versions import Requirement

__all__ = ["findings"]

_ONCE: Final = RetryPolicy(give_up_after_s=0.0)
_NOBODY_HAS: Final = "verge.doctor"
_UNKNOWN: Final = "RESOURCE_NOT_FOUND"


async def findings(options: GreengrassOptions, aws: AwsOptions | None) -> list[Finding]:
    """One for each request; none where the cloud is not asked.  ``options`` are ``filled``."""
    if not options.enabled:
        return []
    plane = DataPlane(options, retry=_ONCE, short_retry=_ONCE)
    question = Question(_NOBODY_HAS, (("verge-doctor", Requirement.parse("*")),))
    found = [await _found(Operation.RESOLVE, plane.resolve(question, platform.detect()))]
    region, account = (aws.place(), aws.account) if aws else (None, "")
    if not (region and account):
        return [
            *found,
            Finding.ok(f"greengrass {Operation.ARTIFACT}", "not asked: aws.region or aws.account is missing"),
        ]
    arn = f"arn:aws:greengrass:{region}:{account}:components:{_NOBODY_HAS}:versions:1.0.0"
    return [*found, await _found(Operation.ARTIFACT, plane.artifact_url(arn, "nothing"))]


async def _found(operation: Operation, asked: Awaitable[object]) -> Finding:
    check = f"greengrass {operation}"
    try:
        await asked
    except VergeError as error:
        if error.code != _UNKNOWN:
            return Finding.of(check, error)
    return Finding.ok(check, "allowed")
