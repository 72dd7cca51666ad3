"""Why there is no connection, as an error with a sentence and a hint.

Pure.  Foreign exceptions and MQTT reason codes are translated here and nowhere else.
"""

from __future__ import annotations

import socket
import ssl

from agent.errors import BrokerUnreachableError, PublishError

__all__ = [
    "BAD_PROTOCOL", "CLOSED", "TAKEN_OVER", "TOO_LARGE", "connect_failed", "connection_lost", "connection_refused",
    "publish_refused",
]  # fmt: skip

BAD_PROTOCOL = "protocol-version"
CLOSED = "connection-closed"
"""The connection ended without a word."""
TOO_LARGE = "packet-too-large"
TAKEN_OVER = "taken-over"

_REFUSALS: dict[int, tuple[str, str, str]] = {
    # reason code: (code, what happened, what to do)
    132: (BAD_PROTOCOL, "it does not speak this MQTT version", 'set version = "3.1.1" or "auto"'),
    133: ("client-id", "it does not take the client id", "set client_id to one the broker knows"),
    134: ("bad-credentials", "user name or password is wrong", "check username and password"),
    135: ("not-authorized", "the client is not authorized", "check username, password and the broker's access rules"),
    136: ("server-unavailable", "it is not available now", "wait, or look into the broker's log"),
    137: ("server-busy", "it is busy", "wait, or look into the broker's log"),
    138: ("banned", "the client is banned", "ask whoever runs the broker"),
    140: ("bad-authentication", "it wants another way of authentication", "check the broker's authentication"),
    149: (TOO_LARGE, "the CONNECT packet is too large", "shorten the last will"),
    151: ("quota-exceeded", "a quota is exceeded", "look into the broker's limits"),
    157: ("server-moved", "it moved to another server", "set host to the new server"),
    159: ("rate-exceeded", "it takes no more connections now", "wait, or look into the broker's limits"),
}
_LOSSES: dict[int, tuple[str, str, str]] = {
    # reason code of a DISCONNECT, the broker's or paho's own: (code, what happened, what to do)
    128: (CLOSED, "the broker closed the connection", "look into the broker's log"),
    130: ("protocol-error", "the broker or the agent broke the protocol", "look into the broker's log"),
    139: ("shutting-down", "the broker is shutting down", "wait until it is back"),
    141: ("keepalive-timeout", "nothing came from the broker within the keepalive", "check the network"),
    142: (TAKEN_OVER, "another client took over with the same client id", "give every client its own client_id"),
    147: ("receive-maximum", "the broker got more messages than it allows in flight", "look into the broker's limits"),
    149: (TOO_LARGE, "a packet was too large for the broker", "raise the broker's maximum packet size or send less"),
    152: ("administrative", "the broker's operator closed the connection", "ask whoever runs the broker"),
}


_FAILURES: dict[type[Exception], tuple[str, str, str]] = {
    # the first that fits: (code, what happened, what to do)
    ssl.SSLCertVerificationError: (
        "certificate",
        "its certificate is not trusted ({})",
        "check tls.ca_file, the name in host and the clock",
    ),
    ssl.SSLError: ("tls", "TLS failed ({})", "check that the port speaks TLS and tls.cert_file, tls.key_file"),
    socket.gaierror: ("dns", "the name cannot be resolved ({})", "check host and the resolver"),
    ConnectionRefusedError: ("connection-refused", "connection refused", "check that the broker runs, host and port"),
    TimeoutError: ("timeout", "no answer in time", "check host, port and the firewall between"),
    ConnectionError: ("closed", "it hung up ({})", "check that port, tls and websocket_path fit each other"),
}


def connect_failed(error: Exception, address: str) -> BrokerUnreachableError:
    """What an exception while connecting to ``address`` means."""
    code, what, hint = _explained(error)
    return BrokerUnreachableError(f"no connection to {address}: {what}", code=code, hint=hint)


def connection_refused(reason: int, name: str, address: str) -> BrokerUnreachableError:
    """What a CONNACK with a failing reason code means."""
    code, what, hint = _REFUSALS.get(reason, ("refused", name.lower(), "look into the broker's log"))
    return BrokerUnreachableError(f"the broker at {address} refused the connection: {what}", code=code, hint=hint)


def connection_lost(reason: int, name: str, address: str) -> BrokerUnreachableError:
    """What a DISCONNECT, or the end of the connection without one, means."""
    default = ("disconnected", f"the broker disconnected: {name.lower()}", "look into the broker's log")
    code, what, hint = _LOSSES.get(reason, default)
    return BrokerUnreachableError(f"lost the connection to {address}: {what}", code=code, hint=hint)


def publish_refused(name: str, topic: str) -> PublishError:
    """What a PUBACK or PUBREC with a failing reason code means."""
    return PublishError(
        f"the broker refused a message for {topic!r}: {name}", hint="check the broker's access rules and quotas"
    )


def _explained(error: Exception) -> tuple[str, str, str]:
    for kind, (code, what, hint) in _FAILURES.items():
        if isinstance(error, kind):
            return code, what.format(_detail(error)), hint
    return "unreachable", _detail(error), "check host, port and the network"


def _detail(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
