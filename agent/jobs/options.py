"""What the device's side of Jobs can be told; the field names are the configuration's keys."""

from __future__ import annotations

import msgspec

from agent.jobs.topics import GREENGRASS, PREFIX

__all__ = ["JobsOptions"]


class JobsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where deployments come from."""

    transport: str = ""
    """Which broker; empty is the first configured one."""
    prefix: str = PREFIX
    """``verge/aws`` where a broker refuses topics that begin with ``$``."""
    namespaces: tuple[str, ...] = ("", GREENGRASS)
    """Namespaces whose jobs are taken; the empty one is the plain one."""
    shadow: bool = True
    """Take single-thing deployments from the shadow ``AWSManagedGreengrassV2Deployment`` too."""
