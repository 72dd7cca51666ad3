"""What a script finds in its environment: inherited → the agent's → the component's → Setenv → the step's Setenv.

Inherited is what the agent itself was started with, less what is the agent's own business: its settings and
credentials, and what systemd or an outer Greengrass nucleus meant for the agent alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.greengrass.recipes.lifecycle import Lifecycle, LifecycleStep

__all__ = ["NUCLEUS_VERSION", "inherited", "nucleus", "of_step"]

NUCLEUS_VERSION = "2.12.6"
"""The nucleus whose behaviour towards components the agent keeps to."""

_PRIVATE_PREFIXES = ("VERGE_", "AWS_GG_", "AWS_CONTAINER_", "LISTEN_", "WATCHDOG_")
_PRIVATE = frozenset({
    "SVCUID", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "CREDENTIALS_DIRECTORY", "PWD", "OLDPWD",
})  # fmt: skip


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the agent's own environment a component may see."""
    return {
        key: value for key, value in environ.items() if key not in _PRIVATE and not key.startswith(_PRIVATE_PREFIXES)
    }


def nucleus(*, thing: str, region: str | None = None, root_ca: str | None = None) -> dict[str, str]:
    """What Greengrass tells every component; region and root CA only where they are known."""
    variables = {"AWS_IOT_THING_NAME": thing, "GGC_VERSION": NUCLEUS_VERSION}
    if region:
        variables |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    if root_ca:
        variables["GG_ROOT_CA_PATH"] = root_ca
    return variables


def of_step(base: Mapping[str, str], token: str, lifecycle: Lifecycle, step: LifecycleStep) -> dict[str, str]:
    """The whole environment of one script; ``token`` is what the component proves itself with."""
    mine = {"SVCUID": token, "AWS_CONTAINER_AUTHORIZATION_TOKEN": token}
    return {**base, **mine, **lifecycle.setenv, **step.setenv}
