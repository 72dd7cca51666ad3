"""A password over a link that anybody on the way can read is refused, unless the owner names the exception.  Pure."""

from __future__ import annotations

import ipaddress

from agent.errors import ConfigError

__all__ = ["check_plaintext", "loopback"]


def loopback(host: str) -> bool:
    """Whether what is sent to ``host`` stays on this machine.

    >>> loopback("localhost"), loopback("127.0.0.53"), loopback("::1"), loopback("broker.local")
    (True, True, True, False)
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.lower().rstrip(".") in {"localhost", "ip6-localhost"}
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def check_plaintext(name: str, host: str, *, tls: bool | None, password: bool, allowed: bool) -> None:
    """Raise ``ConfigError`` where ``transports.<name>`` would send a password in the clear and may not.

    ``tls`` is None where there is none to be had.
    """
    if password and not tls and not allowed and not loopback(host):
        exception = "name the exception: allow_plaintext_password = true"
        raise ConfigError(
            f"transports.{name} would send its password to {host} in the clear",
            code="plaintext-password",
            hint=exception if tls is None else f"add transports.{name}.tls, or {exception}",
        )
