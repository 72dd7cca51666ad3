"""How the ``s3`` store reaches S3: as every store reaches the network, and with the device's AWS account."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.aws.credentials import CredentialsProvider
from agent.config.artifacts import StoreOptions
from agent.config.aws import AwsOptions

__all__ = ["AwsStoreOptions"]


@dataclass(frozen=True, slots=True)
class AwsStoreOptions(StoreOptions):
    """``StoreOptions`` of a device that belongs to an AWS account."""

    aws: AwsOptions = field(default_factory=AwsOptions)
    credentials: CredentialsProvider | None = None
    """None: what the AWS SDK finds by itself."""
