"""A real mosquitto on a loopback port of its own; a test stops, kills and restarts it as the world would."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from agent.config.transports import MqttOptions
from tests.support.certs import Certificates
from tests.support.ports import HeldPort
from tests.support.until import PATIENCE_S

INSTALL = "apt-get install mosquitto"


class Broker:
    """mosquitto with a configuration of its own; ``start`` returns when it accepts connections.

    ``lines`` are added to the configuration before the listener, ``listener`` to the listener itself; ``port`` is one
    that the caller holds, without it the broker holds one of its own.  ``per_listener``: each listener has rules of its
    own of who is let in.
    """

    def __init__(
        self,
        *,
        lines: Iterable[str] = (),
        listener: Iterable[str] = (),
        tls: Certificates | None = None,
        client_certificates: bool = False,
        passwords: dict[str, str] | None = None,
        port: int | None = None,
        per_listener: bool = False,
    ) -> None:
        self._held = HeldPort() if port is None else None
        self.port = self._held.number if self._held else port
        self._lines = tuple(lines)
        self._listener = tuple(listener)
        self._tls = tls
        self._client_certificates = client_certificates
        self._passwords = passwords
        self._per_listener = per_listener
        self._folder = Path(tempfile.mkdtemp(prefix="verge-broker-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def options(self) -> MqttOptions:
        """What a client needs to reach this broker, but for credentials and certificates."""
        return MqttOptions(
            host="127.0.0.1",
            port=self.port,
            backoff_base_s=0.05,
            backoff_cap_s=0.2,
            connect_timeout_s=5.0,
        )

    @property
    def pid(self) -> int:
        """The process of the running broker."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the broker wrote so far."""
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> Self:
        """Start the broker and wait until it accepts connections."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            pytest.skip(f"mosquitto is not installed; install it: {INSTALL}")
        config = self._folder / "mosquitto.conf"
        config.write_text("\n".join(self._config()) + "\n")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
        self._wait_ready()
        return self

    def stop(self) -> None:
        """End the broker as its service manager would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop, and start on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the broker and remove its files."""
        self.kill()
        if self._held:
            self._held.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _config(self) -> list[str]:
        access = ["allow_anonymous false" if self._passwords else "allow_anonymous true"]
        if self._passwords:
            access.append(f"password_file {self._password_file(self._passwords)}")
        lines = [
            *(["per_listener_settings true"] if self._per_listener else access),
            # Started as root, mosquitto drops to a user that cannot read keys of mode 0600.
            *(["user root"] if os.geteuid() == 0 else []),
            "persistence false",
            "set_tcp_nodelay true",
            *self._lines,
        ]
        lines += [f"listener {self.port} 127.0.0.1", *(access if self._per_listener else ())]
        if self._tls:
            lines += [
                f"cafile {self._tls.ca}",
                f"certfile {self._tls.server_cert}",
                f"keyfile {self._tls.server_key}",
                f"require_certificate {str(self._client_certificates).lower()}",
            ]
        return [*lines, *self._listener]

    def _password_file(self, passwords: dict[str, str]) -> Path:
        path = self._folder / "passwords"
        path.write_text("".join(f"{name}:{password}\n" for name, password in passwords.items()))
        path.chmod(0o600)
        subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True, capture_output=True)
        return path

    def _wait_ready(self) -> None:
        assert self._process is not None
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.002)
        raise AssertionError(f"mosquitto does not listen on {self.port}:\n{self.log}")

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
