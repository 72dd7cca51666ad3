"""Two cameras and whoever listens, and the deployments: plain clients of the broker, past the link that is cut."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import time
import zipfile
from pathlib import Path
from typing import Any, Self

import cv2
import msgspec
import numpy as np

from agent.config.transports import MqttOptions
from agent.errors import VergeError
from agent.mqtt.factory import create
from agent.mqtt.transport import Message, Transport
from scripts.accidents.books import Books
from scripts.accidents.site import BASE, THING

GOOD, BAD = "good", "bad"
MODEL, CAMERAS = "com.chaos.model", "com.chaos.cameras"
SETS = ({MODEL: "1.0.0", CAMERAS: "1.0.0"}, {MODEL: "2.0.0", CAMERAS: "2.0.0"})
_BGR = {"grey": (128, 128, 128), "crash": (0, 0, 255), "hang": (0, 255, 0)}
_FPS = 8.0


class Traffic:
    """The clients; entering connects them."""

    def __init__(self, port: int, folder: Path) -> None:
        self.books = Books()
        self.ended: dict[str, dict[str, Any]] = {}
        self.sending = asyncio.Event()
        self._numbers = itertools.count(1)
        self._deployments = itertools.count(1)
        self._folder = folder / "components"
        self._folder.mkdir()
        options = MqttOptions(port=port, receive_maximum=60_000, backoff_base_s=0.02, backoff_cap_s=0.1)
        self._link: Transport = create("site", options)
        self._query: asyncio.Future[dict[str, Any]] | None = None
        self._marked = asyncio.Event()

    async def __aenter__(self) -> Self:
        link = self._link
        # QoS 0: what reaches the broker is here before its sender has the acknowledgement.
        link.subscribe(f"{THING}/answers/frames", self._on_answer)
        link.subscribe(f"{BASE}/results/#", lambda message: self.books.result(json.loads(message.payload)))
        link.subscribe(f"{BASE}/deployments/+", self._on_deployment)
        link.subscribe(f"{THING}/answers/set", self._on_set)
        link.subscribe(f"{THING}/mark", lambda _: self._marked.set())
        await link.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._link.__aexit__(*exc_info)

    async def listening(self) -> None:
        """Return once everything that is published is received here."""
        self._marked.clear()
        while not self._marked.is_set():
            with contextlib.suppress(VergeError):
                self._link.publish(Message(f"{THING}/mark", b""))
            await asyncio.sleep(0.02)

    # -- cameras -------------------------------------------------------------------------------------------------

    async def film(self) -> None:
        """Send grey pictures of both cameras until cancelled, while ``sending``."""
        while True:
            await self.sending.wait()
            for camera in (GOOD, BAD):
                self.picture(camera)
            await asyncio.sleep(1 / _FPS)

    def picture(self, camera: str, kind: str = "grey", *, number: int | None = None) -> None:
        """Send one picture; the same number gives the same bytes."""
        mine = next(self._numbers)
        jpeg = cv2.imencode(".jpg", np.full((16, 16, 3), _BGR[kind], np.uint8))[1].tobytes()
        payload = jpeg + (mine if number is None else number).to_bytes(4, "big")
        message = Message(
            f"{THING}/cameras/{camera}/frame", payload, qos=1, response_topic=f"{THING}/answers/frames",
            correlation_data=mine.to_bytes(8, "big"),
        )  # fmt: skip
        with contextlib.suppress(VergeError):  # the broker is away: it is not sent
            self._link.publish(message)
            self.books.send(mine, camera, time.monotonic())

    def _on_answer(self, message: Message) -> None:
        assert message.correlation_data is not None
        number = int.from_bytes(message.correlation_data, "big")
        self.books.answer(number, json.loads(message.payload), time.monotonic())

    # -- deployments ---------------------------------------------------------------------------------------------

    def deploy(self, which: int, *, wrong: bool = False) -> str:
        """Send the document of a set; the result is its id."""
        identity = f"chaos-{next(self._deployments)}"
        wanted = SETS[which]
        version = f"{which + 1}.9.{next(self._deployments)}" if wrong else wanted[MODEL]
        components = {CAMERAS: {"version": wanted[CAMERAS]}, MODEL: {"version": version}}
        document = {
            "deploymentId": identity,
            "creationTimestamp": int(time.time() * 1e3),
            "components": components,
            "recipes": [self._model(version, which, wrong=wrong), _stream(wanted[CAMERAS])],
        }
        with contextlib.suppress(VergeError):
            self._link.publish(Message(f"{BASE}/deployments", msgspec.json.encode(document), qos=1))
        return identity

    async def active(self, timeout_s: float) -> dict[str, str] | None:
        """The components that are live by the agent's own answer; None when none comes in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._query = asyncio.get_running_loop().create_future()
            asking = Message(f"{BASE}/deployments/get", b"", qos=1, response_topic=f"{THING}/answers/set")
            with contextlib.suppress(VergeError, TimeoutError):
                self._link.publish(asking)
                components: dict[str, str] = (await asyncio.wait_for(self._query, 2.0))["components"]
                return components
            await asyncio.sleep(0.1)
        return None

    def _on_set(self, message: Message) -> None:
        if self._query is not None and not self._query.done():
            self._query.set_result(json.loads(message.payload))

    def _on_deployment(self, message: Message) -> None:
        status = json.loads(message.payload) if message.payload else {}
        if status.get("status") not in (None, "IN_PROGRESS", "QUEUED"):
            self.ended[str(status.get("id"))] = status

    def _model(self, version: str, favourite: int, *, wrong: bool) -> dict[str, Any]:
        expected = {
            "pictures": [{"picture": "grey.jpg", "expect": {"label": "abc"[1 - favourite if wrong else favourite]}}]
        }
        files = {
            "model.moody": str(favourite).encode(),
            "labels.txt": b"a\nb\nc\n",
            "manifest.toml": b'file = "model.moody"\nlabels = "labels.txt"\nbackend = "moody:Moody"\n'
            b'task = "image-classification"\n',
            "golden/grey.jpg": cv2.imencode(".jpg", np.full((16, 16, 3), _BGR["grey"], np.uint8))[1].tobytes(),
            "golden/expected.json": json.dumps(expected).encode(),
        }
        archive = self._folder / f"model-{version}.zip"
        if not archive.exists():
            with zipfile.ZipFile(archive, "w") as packed:
                for path, content in files.items():
                    packed.writestr(zipfile.ZipInfo(path), content)
        digest = base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode()
        artifact = {"Uri": archive.as_uri(), "Unarchive": "ZIP", "Digest": digest, "Algorithm": "SHA-256"}
        return _recipe(MODEL, version, "verge.model", Manifests=[{"Artifacts": [artifact]}])


def _stream(version: str) -> dict[str, Any]:
    block = {
        "Model": MODEL,
        "Input": {"Topic": f"{THING}/cameras/+/frame", "Qos": 1},
        "Policy": "all",
        "Depth": 4096,
        "MaxAgeMs": 600_000,
        "Run": {"Workers": 2, "Threads": 1},
    }
    return _recipe(
        CAMERAS, version, "verge.inference",
        ComponentDependencies={MODEL: {"VersionRequirement": "*"}},
        ComponentConfiguration={"DefaultConfiguration": {"Verge": block}},
        Manifests=[{}],
    )  # fmt: skip


def _recipe(name: str, version: str, kind: str, **more: Any) -> dict[str, Any]:
    head = {"RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version}
    return head | {"ComponentType": kind} | more
