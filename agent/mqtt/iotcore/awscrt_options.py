"""The options as awscrt's objects.

Its thread, one for all clients of this process, lives as long as the process: taking it down while Python ends is what
makes such processes crash.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any
from urllib.parse import quote

from awscrt import auth, http, io, mqtt5  # type: ignore[import-untyped]
from awscrt.exceptions import AwsCrtError  # type: ignore[import-untyped]

from agent.config.transports import AuthorizerOptions, IotCoreOptions
from agent.errors import ConfigError
from agent.mqtt.transport import Message

__all__ = ["HIGHEST_QOS", "client_options", "name_of", "publish_packet", "text_of", "tls_context"]

HIGHEST_QOS = 1
_STABLE_S = 5.0
"""A connection that held so long ends the backing off."""
_ANSWER_S = 60
"""How long a PUBACK or SUBACK may take on a connection that is alive."""


def tls_context(options: IotCoreOptions) -> Any:
    """The TLS side of connections; raises ``ConfigError`` when a file or the security module cannot be used."""
    named = ", ".join(name for name in (options.ca_file, options.cert_file, options.key_file) if name)
    try:
        tls = _tls_options(options)
        if options.ca_file:
            tls.override_default_trust_store_from_path(None, options.ca_file)
        if options.alpn_used:
            tls.alpn_list = [options.alpn_used]
        return io.ClientTlsContext(tls)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the TLS files cannot be used ({text_of(error) or name_of(error)})",
            hint=f"check {named or 'the system certificates'}: PEM, readable, not encrypted, key fits certificate",
        ) from error


def client_options(options: IotCoreOptions, tls: Any, will: Message | None) -> Any:
    """The options of awscrt's client, without its callbacks; ``tls`` is the result of ``tls_context``."""
    return mqtt5.ClientOptions(
        host_name=options.endpoint,
        port=options.port_used,
        bootstrap=_bootstrap(),
        socket_options=_socket_options(options),
        tls_ctx=tls,
        http_proxy_options=_proxy(options),
        websocket_handshake_transform=_handshake(options),
        connect_options=_connect_packet(options, will),
        session_behavior=_session(options),
        # What IoT Core takes is in the configuration, obeyed and reported by us.
        extended_validation_and_flow_control_options=mqtt5.ExtendedValidationAndFlowControlOptions.NONE,
        # What waits is kept by us; awscrt keeps only what it has sent.
        offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
        retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.FULL,
        min_reconnect_delay_ms=_ms(options.backoff_base_s),
        max_reconnect_delay_ms=_ms(max(options.backoff_cap_s, options.backoff_base_s)),
        min_connected_time_to_reset_reconnect_delay_ms=_ms(_STABLE_S),
        ping_timeout_ms=options.keepalive_s * 500,
        connack_timeout_ms=_ms(options.connect_timeout_s),
        ack_timeout_sec=_ANSWER_S,
        disable_metrics=True,  # they would be written into the user name
    )


def publish_packet(message: Message) -> Any:
    """A message as awscrt publishes it."""
    return mqtt5.PublishPacket(
        topic=message.topic,
        payload=message.payload,
        qos=mqtt5.QoS(min(message.qos, HIGHEST_QOS)),
        retain=message.retain,
        payload_format_indicator=mqtt5.PayloadFormatIndicator.AWS_MQTT5_PFI_UTF8 if message.is_text else None,
        content_type=message.content_type,
        response_topic=message.response_topic,
        correlation_data_bytes=message.correlation_data,
        message_expiry_interval_sec=message.expiry_s,
        user_properties=[mqtt5.UserProperty(name, value) for name, value in message.user_properties],
    )


def name_of(error: BaseException) -> str:
    """Awscrt's name of an error."""
    return error.name if isinstance(error, AwsCrtError) else type(error).__name__


def text_of(error: BaseException) -> str:
    """An error in words."""
    return error.message if isinstance(error, AwsCrtError) else str(error)


def _tls_options(options: IotCoreOptions) -> Any:
    if options.pkcs11 is not None:
        return _pkcs11(options)
    if options.cert_file and options.key_file:
        return io.TlsContextOptions.create_client_with_mtls_from_path(options.cert_file, options.key_file)
    return io.TlsContextOptions()


def _pkcs11(options: IotCoreOptions) -> Any:
    module = options.pkcs11
    assert module is not None  # noqa: S101 the caller looked
    try:
        return io.TlsContextOptions.create_client_with_mtls_pkcs11(
            pkcs11_lib=io.Pkcs11Lib(file=module.library),
            user_pin=module.pin,
            slot_id=module.slot,
            token_label=module.token_label,
            private_key_label=module.key_label,
            cert_file_path=options.cert_file,
        )
    except Exception as error:
        raise ConfigError(
            f"the PKCS#11 library {module.library} cannot be used ({text_of(error) or name_of(error)})",
            code="no-pkcs11",
            hint="check pkcs11.library, or name a key_file instead",
        ) from error


@cache
def _bootstrap() -> Any:
    group = io.EventLoopGroup(1)
    return io.ClientBootstrap(group, io.DefaultHostResolver(group))


def _connect_packet(options: IotCoreOptions, will: Message | None) -> Any:
    authorizer = options.authorizer
    return mqtt5.ConnectPacket(
        client_id=options.client_id,
        keep_alive_interval_sec=options.keepalive_s,
        username=None if authorizer is None else _username(authorizer),
        password=None if authorizer is None else authorizer.password,
        session_expiry_interval_sec=options.session_expiry_s,
        receive_maximum=options.receive_maximum,
        will=publish_packet(will) if will else None,
    )


def _username(options: AuthorizerOptions) -> str:
    """The user name as IoT Core takes it apart: its own, then what the authorizer asks for."""
    fields = [
        ("x-amz-customauthorizer-name", options.name),
        ("x-amz-customauthorizer-signature", options.signature),
        (quote(options.token_key, safe=""), options.token or ""),
    ]
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in fields if key and value)
    return f"{options.username}?{query}" if query else options.username


def _session(options: IotCoreOptions) -> Any:
    kinds = mqtt5.ClientSessionBehaviorType
    if not options.session_expiry_s:
        return kinds.CLEAN
    return kinds.REJOIN_POST_SUCCESS if options.clean_start else kinds.REJOIN_ALWAYS


def _socket_options(options: IotCoreOptions) -> Any:
    socket_options = io.SocketOptions()
    socket_options.connect_timeout_ms = _ms(options.connect_timeout_s)
    return socket_options


def _proxy(options: IotCoreOptions) -> Any:
    proxy = options.proxy
    if proxy is None:
        return None
    kind = http.HttpProxyAuthenticationType
    return http.HttpProxyOptions(
        proxy.host,
        proxy.port,
        auth_type=kind.Basic if proxy.username else kind.Nothing,
        auth_username=proxy.username,
        auth_password=proxy.password,
        connection_type=http.HttpProxyConnectionType.Tunneling,
    )


def _handshake(options: IotCoreOptions) -> Callable[[Any], None] | None:
    """What is done to the request for a WebSocket; None where MQTT is spoken without."""
    if not options.websockets:
        return None
    if options.sigv4 is None:
        return _unchanged
    provider = auth.AwsCredentialsProvider.new_default_chain(_bootstrap())
    signing = partial(
        auth.AwsSigningConfig,
        algorithm=auth.AwsSigningAlgorithm.V4,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_QUERY_PARAMS,
        credentials_provider=provider,
        region=options.region,
        service="iotdevicegateway",
        omit_session_token=True,  # IoT Core wants it added after the signature
    )

    def sign(transform_args: Any) -> None:
        done = auth.aws_sign_request(transform_args.http_request, signing())
        done.add_done_callback(lambda signed: transform_args.set_done(signed.exception()))

    return sign


def _unchanged(transform_args: Any) -> None:
    transform_args.set_done()


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
