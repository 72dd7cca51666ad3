"""What awscrt's errors and IoT Core's reason codes mean, as an error with a sentence and a hint.

Pure.  What is the same with every broker stands in ``agent.mqtt.reasons``.
"""

from __future__ import annotations

from agent.errors import BrokerUnreachableError, NotConnectedError, PublishError, VergeError
from agent.mqtt import reasons

__all__ = ["connection_failed", "connection_lost", "connection_refused", "publish_failed", "publish_refused"]

_POLICY = "check that the certificate or token is valid, and what the IoT policy allows this client id"
_TLS = "check ca_file, the name in endpoint, the clock, cert_file and key_file, and that the port speaks TLS"

_FAILURES: dict[str, tuple[str, str, str]] = {
    # awscrt's name of an error: (code, what happened, what to do)
    "AWS_IO_DNS_QUERY_FAILED": ("dns", "the name cannot be resolved", "check endpoint and the resolver"),
    "AWS_IO_DNS_INVALID_NAME": ("dns", "the name cannot be resolved", "check endpoint and the resolver"),
    "AWS_IO_DNS_NO_ADDRESS_FOR_HOST": ("dns", "the name has no address", "check endpoint and the resolver"),
    "AWS_IO_DNS_QUERY_AGAIN": ("dns", "the name cannot be resolved now", "check the network and the resolver"),
    "AWS_IO_SOCKET_CONNECTION_REFUSED": (
        "connection-refused", "connection refused", "check endpoint, port, and the proxy if there is one",
    ),
    "AWS_IO_SOCKET_TIMEOUT": ("timeout", "no answer in time", "check endpoint, port and the firewall between"),
    "AWS_IO_SOCKET_NO_ROUTE_TO_HOST": ("unreachable", "there is no route to it", "check the network"),
    "AWS_IO_SOCKET_NETWORK_DOWN": ("unreachable", "the network is down", "check the network"),
    "AWS_IO_SOCKET_CLOSED": ("closed", "it hung up", _TLS),
    "AWS_IO_TLS_ERROR_NEGOTIATION_FAILURE": ("tls", "TLS failed", _TLS),
    "AWS_IO_TLS_NEGOTIATION_TIMEOUT": ("timeout", "TLS had no answer in time", _TLS),
    "AWS_IO_TLS_ERROR_READ_FAILURE": ("closed", "it hung up on TLS", f"{_TLS}; {_POLICY}"),
    "AWS_ERROR_MQTT_TIMEOUT": ("timeout", "no answer in time", "check endpoint, port and the firewall between"),
    "AWS_ERROR_MQTT5_CONNACK_TIMEOUT": ("timeout", "the CONNECT was not answered", "check endpoint and port"),
    "AWS_ERROR_MQTT5_PING_RESPONSE_TIMEOUT": (
        "keepalive-timeout", "nothing came from the broker within the keepalive", "check the network",
    ),
    "AWS_ERROR_MQTT_UNEXPECTED_HANGUP": (
        reasons.CLOSED, "it closed the connection", f"{_POLICY}, and that no other client has it",
    ),
    "AWS_ERROR_HTTP_WEBSOCKET_UPGRADE_FAILURE": (
        "websocket", "it refused the WebSocket", "check the credentials, the region and the clock",
    ),
    "AWS_ERROR_HTTP_PROXY_CONNECT_FAILED": ("proxy", "the proxy refused", "check proxy and what it lets through"),
    "AWS_ERROR_HTTP_CONNECTION_CLOSED": ("closed", "it hung up", "check endpoint, port and proxy"),
    "AWS_AUTH_SIGNING_NO_CREDENTIALS": (
        "no-credentials", "the SDK's default chain has no credentials",
        "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret",
    ),
}  # fmt: skip
_REFUSALS: dict[int, tuple[str, str, str]] = {
    # reason code of a CONNACK: (code, what happened, what to do)
    133: ("client-id", "it does not take the client id", "set client_id to at most 128 bytes that the policy allows"),
    134: ("bad-credentials", "it does not take the credentials", "check the authorizer's token and signature"),
    135: ("not-authorized", "the client is not authorized", f"{_POLICY}: iot:Connect"),
}
_LOSSES: dict[int, tuple[str, str, str]] = {
    # reason code of a DISCONNECT: (code, what happened, what to do)
    131: ("implementation-error", "it does not take what was sent", "look into IoT Core's log in CloudWatch"),
    135: ("not-authorized", "the client did what it may not", f"{_POLICY}: iot:Publish, iot:Subscribe, iot:Receive"),
    143: ("bad-filter", "it does not take a filter", "shorten the filters that are subscribed to"),
    144: ("bad-topic", "it does not take a topic", "shorten the topics that are published on"),
    150: ("rate-exceeded", "messages came too fast for it", "lower limits.publishes_per_s"),
    151: ("quota-exceeded", "a quota is exceeded", "lower limits, or raise the account's quota"),
    160: ("connect-time", "the connection lasted as long as it may", "nothing: it is made anew"),
}
_PUBLISH: dict[int, tuple[str, str, str]] = {
    # reason code of a PUBACK: (code, what happened, what to do)
    135: ("not-authorized", "it is not authorized", "allow iot:Publish on this topic in the IoT policy"),
    144: ("bad-topic", "it does not take the topic", "check the topic"),
    149: ("packet-too-large", "the message is too large", "send less"),
    151: ("quota-exceeded", "a quota is exceeded", "lower limits, or raise the account's quota"),
    153: ("bad-payload", "it does not take the payload", "check what is published"),
}
_QUOTA_EXCEEDED = 151


def connection_failed(name: str, text: str, address: str) -> BrokerUnreachableError:
    """What awscrt's error ``name`` while connecting to ``address`` means."""
    code, what, hint = _FAILURES.get(name, ("unreachable", text or name, "check endpoint, port and the network"))
    return BrokerUnreachableError(f"no connection to {address}: {what}", code=code, hint=hint)


def connection_refused(reason: int, name: str, address: str) -> BrokerUnreachableError:
    """What a CONNACK with a failing reason code means."""
    if reason not in _REFUSALS:
        return reasons.connection_refused(reason, name, address)
    code, what, hint = _REFUSALS[reason]
    return BrokerUnreachableError(f"the broker at {address} refused the connection: {what}", code=code, hint=hint)


def connection_lost(reason: int | None, name: str, text: str, address: str) -> BrokerUnreachableError:
    """What a DISCONNECT with ``reason``, or awscrt's error ``name`` where none came, means."""
    if reason is None:
        code, what, hint = _FAILURES.get(name, ("disconnected", text or name, "look into the broker's log"))
    elif reason in _LOSSES:
        code, what, hint = _LOSSES[reason]
    else:
        return reasons.connection_lost(reason, name, address)
    return BrokerUnreachableError(f"lost the connection to {address}: {what}", code=code, hint=hint)


def publish_refused(reason: int, name: str, topic: str) -> VergeError:
    """What a PUBACK with a failing reason code means; a quota is no refusal, it passes."""
    code, what, hint = _PUBLISH.get(reason, ("publish-refused", name.lower(), "look into the broker's log"))
    kind = NotConnectedError if reason == _QUOTA_EXCEEDED else PublishError
    return kind(f"the broker refused a message for {topic!r}: {what}", code=code, hint=hint)


def publish_failed(name: str, text: str, topic: str) -> VergeError:
    """What awscrt's error means for a publish: that it cannot be sent as it is, or not now."""
    if any(word in name for word in ("VALIDATION", "ENCODE", "UTF8")):
        return PublishError(
            f"a message for {topic!r} cannot be sent: {text or name}", hint="check its topic, size and properties"
        )
    return NotConnectedError(f"a message for {topic!r} was not delivered: {text or name}")
