"""What the agent can be told about AWS; the field names are the configuration's keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated

import msgspec

__all__ = ["AwsOptions"]

_CREDENTIALS_HOST = re.compile(r"[^.]+\.credentials\.iot\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?::\d+)?")


class AwsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[aws]``: the account the device belongs to, and how it gets credentials there."""

    region: str = ""
    """Empty: that of the credentials endpoint, else what the AWS SDK finds."""
    account: Annotated[str, msgspec.Meta(pattern=r"^(\d{12})?$")] = ""
    """Twelve digits; a bucket of another account is told of."""
    role_alias: Annotated[str, msgspec.Meta(pattern=r"^[\w=,@-]{0,128}$")] = ""
    """The IoT role alias whose role the device takes; empty: the credentials of the AWS SDK's own chain."""
    credentials_endpoint: str = ""
    """The host of ``aws iot describe-endpoint --endpoint-type iot:CredentialProvider``."""
    cert_file: str | None = None
    """PEM of the device's certificate; without it that of the iotcore transport."""
    key_file: str | None = None
    ca_file: str | None = None
    """PEM of the authorities to trust; without it the system's."""
    data_endpoint: str = ""
    """The host of the Greengrass data plane."""
    s3_endpoint_url: str | None = None
    """Where S3 is, when it is not Amazon's: MinIO, a test's server."""

    def place(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The region, told or found; None: only the AWS SDK may know."""
        host = _CREDENTIALS_HOST.fullmatch(self.credentials_endpoint)
        told = self.region or (host[1] if host else "")
        return told or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None
