"""What can go wrong on the way to an identity, in the two families of every error."""

from __future__ import annotations

from agent.errors import InvalidInputError, UnreachableError

__all__ = ["PolicyError", "ProvisioningError", "ProvisioningUnreachableError"]


class ProvisioningError(InvalidInputError):
    """The service, a file or a certificate stands in the way; the same wish gets the same answer."""

    default_code = "provisioning-refused"


class ProvisioningUnreachableError(UnreachableError):
    """The service did not answer in time, or asked to be left alone for a while."""

    default_code = "provisioning-unreachable"


class PolicyError(InvalidInputError):
    """A policy document that cannot be read, or says what cannot be carried over."""

    default_code = "policy-wrong"
