"""What can go wrong on the way to an identity, in the two families of every error."""

from __future__ import annotations

from agent.errors import Unreachable, Wrong

__all__ = ["PolicyWrong", "ProvisioningRefused", "ProvisioningUnreachable"]


class ProvisioningRefused(Wrong):
    """The service, a file or a certificate stands in the way; the same wish gets the same answer."""

    default_code = "provisioning-refused"


class ProvisioningUnreachable(Unreachable):
    """The service did not answer in time, or asked to be left alone for a while."""

    default_code = "provisioning-unreachable"


class PolicyWrong(Wrong):
    """A policy document that cannot be read, or says what cannot be carried over."""

    default_code = "policy-wrong"
