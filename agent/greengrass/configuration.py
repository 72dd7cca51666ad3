"""Deployment documents that were too large for their job: the job's is cut short, and requires LARGE_CONFIGURATION.

The cloud tells where the whole one is and its digest.  What does not match is fetched anew, from a new URL.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from agent.artifacts.digest import Digest
from agent.artifacts.errors import ArtifactWrong
from agent.greengrass.errors import GreengrassUnreachable, GreengrassWrong
from agent.greengrass.messages import Whole

if TYPE_CHECKING:
    from agent.greengrass.client import DataPlane

__all__ = ["LARGE_CONFIGURATION", "MAX_BYTES", "full_document"]

LARGE_CONFIGURATION: Final = "LARGE_CONFIGURATION"
"""The capability that a document requires when it is cut short."""

MAX_BYTES: Final = 10 * 1024 * 1024


async def full_document(client: DataPlane, deployment_id: str) -> bytes:
    """The whole document of the deployment that the cloud knows by ``deployment_id``: JSON, at most ``MAX_BYTES``.

    Raises:
        GreengrassWrong: the cloud refuses, the document is too large, or it cannot be verified.
        GreengrassUnreachable: it did not come for as long as there was patience.
    """
    return await client.configuration(deployment_id, _check, MAX_BYTES)


def _check(whole: Whole, body: bytes) -> None:
    try:
        wanted = Digest.parse(whole.digest, whole.algorithm)
    except ArtifactWrong as error:
        code = error.code if error.code == "HASHING_ALGORITHM_UNAVAILABLE" else "CLOUD_API_ERROR"
        raise GreengrassWrong(error.message, hint="the cloud's answer cannot be used", code=code) from error
    came = Digest(hashlib.sha256(body).hexdigest())
    if came != wanted:
        raise GreengrassUnreachable(
            f"the whole document has the digest {came}, the cloud says {wanted}",
            hint="something on the way changes it",
            code="DOWNLOAD_DEPLOYMENT_DOCUMENT_ERROR",
        )
