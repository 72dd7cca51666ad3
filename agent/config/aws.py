"""What the configuration says of the device's AWS account and of the Greengrass data plane there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Annotated, Final, Self

from msgspec import Meta
from msgspec.structs import replace

from agent.config.bounds import Name, Text
from agent.config.secrets import HttpOptions, TlsFiles
from agent.errors import ConfigError

__all__ = ["AwsOptions", "GreengrassOptions"]

_PORT, _ALPN_PORT, _ALPN = 8443, 443, "x-amzn-http-ca"
_ENDPOINT: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::([1-9][0-9]{0,4}))?")
_CREDENTIALS_HOST: Final = re.compile(r"[^.]+\.credentials\.iot\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?::\d+)?")


class AwsOptions(TlsFiles, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[aws]``: the account the device belongs to, and how it gets credentials there.

    A certificate that is not named is that of the iotcore transport.
    """

    region: Name = ""
    """Empty: that of the credentials endpoint, else what the AWS SDK finds."""
    account: Annotated[str, Meta(pattern=r"^(\d{12})?$", description="the twelve digits of an account")] = ""
    """Twelve digits; a bucket of another account is reported."""
    role_alias: Annotated[str, Meta(pattern=r"^[\w=,@-]{0,128}$", description="the name of a role alias")] = ""
    """The IoT role alias whose role the device takes; empty: the credentials of the AWS SDK's own chain."""
    credentials_endpoint: Name = ""
    """The host of ``aws iot describe-endpoint --endpoint-type iot:CredentialProvider``."""
    data_endpoint: Name = ""
    """The host of the Greengrass data plane."""
    s3_endpoint_url: Text | None = None
    """Where S3 is, when it is not Amazon's: MinIO, a test's server."""

    def place(self, environment: Mapping[str, str] = os.environ) -> str | None:
        """The region, given or inferred; None: only the AWS SDK may know."""
        host = _CREDENTIALS_HOST.fullmatch(self.credentials_endpoint)
        region = self.region or (host[1] if host else "")
        return region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or None


class GreengrassOptions(HttpOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[greengrass]``.

    A certificate that is not named is what ``[aws]`` says.
    """

    enabled: bool = False
    """Whether Amazon's cloud is asked for components and ``greengrass:`` artifacts."""
    data_endpoint: Name = ""
    """A host, with its port if that is not 8443; empty: the Greengrass endpoint of the AWS region."""
    alpn: Name | None = None
    """The protocol to offer in the TLS handshake; without it what port 443 wants.  Empty: none of Amazon's."""

    def filled(self, aws: AwsOptions | None) -> Self:
        """The same with what is left out taken from ``[aws]``.  Raises ``ConfigError`` when something is missing."""
        aws = aws or AwsOptions()
        filled = replace(
            self,
            data_endpoint=self.data_endpoint or aws.data_endpoint or _regional(aws.place()),
            cert_file=self.cert_file or aws.cert_file,
            key_file=self.key_file or aws.key_file,
            ca_file=self.ca_file or aws.ca_file,
        )
        if not (filled.cert_file and filled.key_file):
            raise ConfigError(
                "the Greengrass data plane needs the device's certificate",
                code="aws-no-certificate",
                hint="set greengrass.cert_file and greengrass.key_file, or use a transport of the type iotcore",
                path="greengrass.cert_file",
            )
        _ = filled.base_url
        return filled

    @property
    def base_url(self) -> str:
        """``https://host:port``.  Raises ``ConfigError`` for an endpoint that is none."""
        endpoint = _ENDPOINT.fullmatch(self.data_endpoint)
        if endpoint is None:
            problem = f"greengrass.data_endpoint {self.data_endpoint!r} is no host"
            raise ConfigError(
                problem if self.data_endpoint else "greengrass.data_endpoint is missing, and so is aws.region",
                code="IOT_DATA_ENDPOINT_FORMAT_NOT_VALID",
                hint="write greengrass-ats.iot.REGION.amazonaws.com",
                path="greengrass.data_endpoint",
            )
        return f"https://{endpoint[1]}:{endpoint[2] or _PORT}"

    @property
    def alpn_used(self) -> str | None:
        """The protocol to offer."""
        if self.alpn is not None:
            return self.alpn or None
        return _ALPN if self.base_url.endswith(f":{_ALPN_PORT}") else None


def _regional(region: str | None) -> str:
    suffix = ".cn" if (region or "").startswith("cn-") else ""
    return f"greengrass-ats.iot.{region}.amazonaws.com{suffix}" if region else ""
