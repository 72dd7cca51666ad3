"""The errors of provisioning, in the two families of every error."""

from __future__ import annotations

from agent.errors import InvalidInputError, UnreachableError

__all__ = ["ProvisioningError", "ProvisioningUnreachableError"]


class ProvisioningError(InvalidInputError):
    """The service, a file or a certificate stands in the way; the same request gets the same answer."""

    default_code = "provisioning-refused"


class ProvisioningUnreachableError(UnreachableError):
    """The service did not answer in time, or asked to be left alone for a while."""

    default_code = "provisioning-unreachable"
