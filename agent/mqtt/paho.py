"""A paho client set up from options: everything but its callbacks."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Any, Literal

from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY, Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.config.transports import MqttOptions
from agent.mqtt.properties import connect_properties, publish_properties
from agent.mqtt.transport import Message

__all__ = ["new_client"]


def new_client(options: MqttOptions, version: int, will: Message | None, tls: ssl.SSLContext | None) -> Client:
    """A client for ``version`` (5, or 4 which is 3.1.1 on the wire) that is ready to ``reconnect``."""
    five = version == MQTTProtocolVersion.MQTTv5
    kind: Literal["tcp", "websockets"] = "websockets" if options.websocket_path else "tcp"
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=options.client_id,
        clean_session=None if five else options.clean_start,
        protocol=MQTTProtocolVersion(version),
        transport=kind,
        reconnect_on_failure=False,
    )
    client.connect_timeout = options.connect_timeout_s
    client.max_inflight_messages = 0  # the outbox keeps the window
    client.on_socket_open = _no_delay
    if options.websocket_path:
        client.ws_set_options(path=options.websocket_path)
    if tls:
        client.tls_set_context(tls)
    if options.username is not None:
        client.username_pw_set(options.username, options.password)
    if will:
        properties = publish_properties(will) if five else None
        client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
    _aim(client, options, five=five)
    return client


def _aim(client: Client, options: MqttOptions, *, five: bool) -> None:
    if not five:
        client.connect_async(options.host, options.port, options.keepalive_s)
        return
    properties = connect_properties(session_expiry_s=options.session_expiry_s, receive_maximum=options.receive_maximum)
    clean_start = MQTT_CLEAN_START_FIRST_ONLY if options.clean_start else False
    client.connect_async(
        options.host, options.port, options.keepalive_s, clean_start=clean_start, properties=properties
    )


def _no_delay(_client: Client, _userdata: Any, connection: Any) -> None:
    # A WebSocket wrapper hides its socket; a duplicate of the descriptor is the same socket to the kernel.
    with socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
