"""The TLS side of a connection, built once so that a wrong file is told at the start."""

from __future__ import annotations

import ssl

from agent.config.transports import TlsOptions
from agent.errors import ConfigError

__all__ = ["tls_context"]


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """The context for ``options``; raises ``ConfigError`` when a file is missing, encrypted or no PEM of its kind."""
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.cert_file:
            context.load_cert_chain(options.cert_file, options.key_file, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        named = ", ".join(name for name in (options.ca_file, options.cert_file, options.key_file) if name)
        raise ConfigError(
            f"the TLS files cannot be used ({error})", hint=f"check {named}: PEM, readable, key fits certificate"
        ) from error
    context.sslsocket_class = _ClosedOnFailure
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    return context


def _no_password() -> str:
    """OpenSSL would ask the terminal, and an agent has none."""
    raise ConfigError(
        "the key of the TLS certificate is encrypted",
        hint="store it decrypted (openssl pkey -in KEY -out KEY.pem), readable by the agent's user only",
    )


class _ClosedOnFailure(ssl.SSLSocket):
    """paho forgets a socket whose handshake failed; this one closes itself."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise
