"""Where an S3 artifact is: its bucket and its key.

A key is taken as it is written, as the Greengrass nucleus does: ``%20`` in it is no blank.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from agent.greengrass.artifacts.stores.s3errors import S3Error
from agent.greengrass.artifacts.uri import shown

__all__ = ["Place"]

_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
_URI = re.compile(r"s3://([^/]+)/(.+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """An object in a bucket; ``uri`` is fit to be shown."""

    bucket: str
    key: str
    uri: str

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read ``s3://bucket/key``; raises ``S3Error`` when it cannot be fetched from."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise S3Error(
                f"{shown(uri)} names no bucket and key",
                hint="write s3://BUCKET/KEY; `gdk component publish` fills in the bucket",
                code="S3_ARTIFACT_URI_NOT_VALID",
            )
        bucket, key = found.groups()
        if "." in bucket:
            raise S3Error(
                f"{shown(uri)}: the bucket's name has a dot, so S3's TLS certificate does not cover its host",
                hint="publish the artifact in a bucket without dots in its name, as AWS IoT Greengrass asks",
                code="S3_ARTIFACT_URI_NOT_VALID",
            )
        return cls(bucket, key, shown(uri))

    def arn(self, region: str | None) -> str:
        """What a policy calls the object; ``region`` tells the partition."""
        partition = next((name for start, name in _PARTITIONS.items() if (region or "").startswith(start)), "aws")
        return f"arn:{partition}:s3:::{self.bucket}/{self.key}"
