"""What the agent can be told about the Greengrass data plane; the field names are the configuration's keys."""

from __future__ import annotations

import re
from typing import Annotated, Self, TypeAlias

import msgspec

from agent.config.aws import AwsOptions
from agent.errors import ConfigError

__all__ = ["GreengrassOptions"]

_PORT, _ALPN_PORT, _ALPN = 8443, 443, "x-amzn-http-ca"
_ENDPOINT = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::([1-9][0-9]{0,4}))?")

Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class GreengrassOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[greengrass]``."""

    enabled: bool = False
    """Whether Amazon's cloud is asked for components and ``greengrass:`` artifacts."""
    data_endpoint: str = ""
    """A host, with its port if that is not 8443; empty: the Greengrass endpoint of the AWS region."""
    cert_file: str | None = None
    """PEM of the device's certificate; without it what ``[aws]`` says."""
    key_file: str | None = None
    ca_file: str | None = None
    """PEM of the authorities to trust; without it the system's."""
    proxy: str | None = None
    """``http://user:password@host:port``; without it the environment's proxy variables hold."""
    alpn: str | None = None
    """The protocol to offer in the TLS handshake; without it what port 443 wants.  Empty: none of Amazon's."""
    connect_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 30.0

    def filled(self, aws: AwsOptions | None) -> Self:
        """The same with what is left out taken from ``[aws]``.  Raises ``ConfigError`` when something is missing."""
        aws = aws or AwsOptions()
        filled = msgspec.structs.replace(
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
            )
        _ = filled.base_url
        return filled

    @property
    def base_url(self) -> str:
        """``https://host:port``.  Raises ``ConfigError`` for an endpoint that is none."""
        found = _ENDPOINT.fullmatch(self.data_endpoint)
        if found is None:
            told = f"greengrass.data_endpoint {self.data_endpoint!r} is no host"
            raise ConfigError(
                told if self.data_endpoint else "greengrass.data_endpoint is missing, and so is aws.region",
                code="IOT_DATA_ENDPOINT_FORMAT_NOT_VALID",
                hint="write greengrass-ats.iot.REGION.amazonaws.com",
            )
        return f"https://{found[1]}:{found[2] or _PORT}"

    @property
    def alpn_used(self) -> str | None:
        """The protocol to offer."""
        if self.alpn is not None:
            return self.alpn or None
        return _ALPN if self.base_url.endswith(f":{_ALPN_PORT}") else None


def _regional(region: str | None) -> str:
    suffix = ".cn" if (region or "").startswith("cn-") else ""
    return f"greengrass-ats.iot.{region}.amazonaws.com{suffix}" if region else ""
