"""A broker for the demo: on a free port of the loopback interface, with no other way in.

mosquitto is taken where it is installed, because it is what most sites run.  Where it is not, rumqttd comes
along as a library (``iotcore``): the only broker with MQTT 5 that installs with pip alone.

A demo that takes deployments has a private broker: one user with a password that is made for it and lies in a file
that nobody else can read, so that nobody else on the machine can deploy.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import os
import secrets
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.config.transports import MqttOptions
from agent.demo.child import ChildProgram
from agent.errors import BackendUnavailableError, BrokerUnreachableError, ConfigError

__all__ = ["HOST", "KINDS", "USER", "Broker", "running"]

HOST = "127.0.0.1"
KINDS = ("auto", "mosquitto", "embedded")
USER = "demo"
"""The one user of a private broker."""

_READY_S = 15.0
_RETRY_S = 0.01

_MOSQUITTO = """\
listener {port} {host}
allow_anonymous {anonymous}
persistence false
max_queued_messages 0
max_packet_size 268435455
"""

# max_segment_*: how much of each topic the router keeps for slow readers; its default is 100 × 100 MiB.
_RUMQTTD = """\
id = 0

[router]
id = 0
max_connections = 64
max_outgoing_packet_count = 200
max_segment_size = 4194304
max_segment_count = 2

[v5.1]
name = "demo"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = 16777216
max_inflight_count = 100
dynamic_filters = true
"""


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that accepts connections."""

    kind: str
    port: int
    child: ChildProgram
    password_file: Path | None = None
    """Where the password of ``USER`` is; None where anybody on this machine may connect."""

    @property
    def options(self) -> MqttOptions:
        """How a client of the demo reaches it."""
        if self.password_file is None:
            return MqttOptions(port=self.port)
        return MqttOptions(port=self.port, username=USER, password=self.password_file.read_text())

    def __str__(self) -> str:
        return f"{self.kind} {HOST}:{self.port}"


@asynccontextmanager
async def running(kind: str, port: int, folder: Path, *, private: bool = False) -> AsyncIterator[Broker]:
    """A broker of one of ``KINDS`` until the context is left; port 0 is a free one, ``private`` is with a password.

    Raises ``ConfigError`` for a port in use, ``BackendUnavailableError`` where there is no such broker and
    ``BrokerUnreachableError`` with its last words when it does not come up.
    """
    mosquitto = None if kind == "embedded" else shutil.which("mosquitto")
    if kind == "mosquitto" and mosquitto is None:
        raise BackendUnavailableError("mosquitto is not on the PATH", hint="install it, or use --broker embedded")
    with _held(port) as own_port:
        password = secrets.token_urlsafe(24) if private else ""
        arguments = (
            _mosquitto(mosquitto, own_port, folder, password) if mosquitto else _embedded(own_port, folder, password)
        )
        async with ChildProgram("broker", arguments, folder / "broker.log") as child:
            await _until_it_accepts(child, own_port)
            name = "mosquitto" if mosquitto else "embedded rumqttd"
            yield Broker(name, own_port, child, _secret(folder / "mqtt-password", password) if password else None)


def _secret(path: Path, content: str) -> Path:
    """A new file that only its owner can read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 with a mode
        file.write(content)
    return path


def _mosquitto(program: str, port: int, folder: Path, password: str) -> list[str]:
    config = folder / "mosquitto.conf"
    # Started as root it would leave for a user who may not read the work folder; it touches nothing else.
    user = "user root\n" if os.geteuid() == 0 else ""
    text = _MOSQUITTO.format(host=HOST, port=port, anonymous="false" if password else "true") + user
    if password:
        text += f"password_file {_secret(folder / 'mosquitto.passwords', _hashed(password))}\n"
    config.write_text(text)
    return [program, "-c", str(config)]


def _hashed(password: str) -> str:
    """A line of mosquitto's password file, as ``mosquitto_passwd`` writes it: PBKDF2 with SHA-512."""
    rounds, salt = 101, secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"{USER}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def _embedded(port: int, folder: Path, password: str) -> list[str]:
    if importlib.util.find_spec("iotcore") is None:
        raise BackendUnavailableError(
            "there is no broker: mosquitto is not on the PATH and iotcore is not installed",
            hint="install mosquitto, or pip install iotcore",
        )
    config = folder / "rumqttd.toml"
    text = _RUMQTTD.format(host=HOST, port=port)
    if password:
        text += f'\n[v5.1.connections.auth]\n{USER} = "{password}"\n'
    _secret(config, text)
    # rumqttd tells each packet at level ERROR; a start that fails ends the process with a traceback.
    return [sys.executable, "-m", "iotcore", "--config", str(config), "--log-level", "CRITICAL"]


@contextmanager
def _held(wanted: int) -> Iterator[int]:
    """The port, which nobody else is given: bound here and not listened on, so that the broker can listen there."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind((HOST, wanted))
        except OSError as error:
            raise ConfigError(
                f"port {wanted} cannot be used: {error.strerror}", code="port-in-use", hint="leave --port out"
            ) from error
        yield holder.getsockname()[1]


async def _until_it_accepts(child: ChildProgram, port: int) -> None:
    try:
        async with asyncio.timeout(_READY_S):
            while child.alive:
                try:
                    _, writer = await asyncio.open_connection(HOST, port)
                except OSError:
                    await asyncio.sleep(_RETRY_S)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return
    except TimeoutError:
        raise BrokerUnreachableError(f"the broker does not accept connections\n{child.last_lines()}") from None
    raise BrokerUnreachableError(child.end_error().message)
