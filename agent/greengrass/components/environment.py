"""What a script finds in its environment: inherited → the agent's → the component's → Setenv → the step's Setenv.

Inherited is what the agent itself was started with, less what is the agent's own business: its settings and
credentials, and what systemd or an outer Greengrass nucleus meant for the agent alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.config.aws import AwsOptions
from agent.config.secrets import HttpOptions
from agent.config.transports import TransportOptions
from agent.greengrass.recipes.lifecycle import Lifecycle, LifecycleStep

__all__ = ["LONGEST_SOCKET_PATH", "inherited", "ipc_socket", "nucleus", "of_step"]

LONGEST_SOCKET_PATH: Final = 107
"""Bytes: the kernel keeps 108 of a socket's address, with a zero at the end."""

_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")
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


def ipc_socket(path: Path, root: Path) -> dict[str, str]:
    """Where a component finds the agent's socket; ``root`` is the folder above the components' work folders.

    A path that is longer than a socket's address may be is named from the folder that scripts run in.
    """
    absolute = os.path.abspath(path)  # noqa: PTH100 of a path that need not be there
    short = len(os.fsencode(absolute)) <= LONGEST_SOCKET_PATH
    of_component = absolute if short else os.path.relpath(absolute, root / "work" / "component")
    return {
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH": absolute,
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": of_component,
    }


def nucleus(
    version: str, thing: str, aws: AwsOptions | None, link: TransportOptions, downloads: HttpOptions,
    environ: Mapping[str, str],
) -> dict[str, str]:  # fmt: skip
    """What a nucleus of a ``version`` gives every component, most of it only where it is known.

    The proxy is that of the artifacts, else that of the link; where neither has one, components inherit the agent's.
    This machine is never reached through it: the agent's own servers are there.
    """
    variables = {"AWS_IOT_THING_NAME": thing, "GGC_VERSION": version}
    if region := (aws or AwsOptions()).place(environ):
        variables |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    tls = link.tls_used
    if root_ca := (tls.ca_file if tls else None) or (aws.ca_file if aws else None):
        variables["GG_ROOT_CA_PATH"] = root_ca
    if proxy := downloads.proxy or link.proxy_url:
        named = environ.get("no_proxy") or environ.get("NO_PROXY", "")
        proxies = {
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy),
            "NO_PROXY": ",".join(dict.fromkeys([*_THIS_MACHINE, *filter(None, named.split(","))])),
        }
        variables |= proxies | {key.lower(): value for key, value in proxies.items()}
    return variables


def of_step(base: Mapping[str, str], token: str, lifecycle: Lifecycle, step: LifecycleStep) -> dict[str, str]:
    """The whole environment of one script; ``token`` is what the component proves itself with."""
    mine = {"SVCUID": token, "AWS_CONTAINER_AUTHORIZATION_TOKEN": token}
    return {**base, **mine, **lifecycle.setenv, **step.setenv}
