"""Deploy Verge to Verge, as a Greengrass nucleus is deployed components to, and have the inner one answer a frame."""

from __future__ import annotations

import getpass
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tomli_w

from agent.inference.manifest import SAMPLES
from tests.support.broker import Broker
from tests.support.fleet import Fleet, document
from tests.support.peer import peer

NAME, CAMERA = "com.example.Verge", "com.example.Camera"
RESULTS = "verge/edge/results/cameras"
PATIENCE_S = 120.0
SENDS = """
import sys, time
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from awsiot.greengrasscoreipc.model import BinaryMessage, PublishMessage

client, picture = GreengrassCoreIPCClientV2(), open(sys.argv[1], "rb").read()
while True:
    client.publish_to_topic(
        topic="cameras/door/frame", publish_message=PublishMessage(binary_message=BinaryMessage(message=picture))
    )
    time.sleep(1)
"""
ACCESS = {
    "aws.greengrass.ipc.pubsub": {
        f"{CAMERA}:pubsub:1": {"operations": ["aws.greengrass#PublishToTopic"], "resources": ["cameras/door/frame"]}
    }
}


def main() -> int:
    """Build, pack, deploy, and say how it went; the exit status."""
    with tempfile.TemporaryDirectory(prefix="verge-component-") as temporary:
        folder = Path(temporary)
        recipes = [_step("verge, packed", _verge, folder), _step("a camera", _camera, folder)]
        with Broker() as broker, peer(broker.options.port) as listener:
            listener.subscribe("#")
            outer = _outer(folder, broker.options.port)
            try:
                wanted = document("first", recipes, {NAME: "1.0.0", CAMERA: "1.0.0"})
                listener.wait("outer/edge/status", lambda told: told.get("state") == "online", PATIENCE_S)
                listener.publish("outer/edge/deployments", json.dumps(wanted))
                ended = _step("deployed", _outcome, listener)
                result = _step("answered", listener.wait, RESULTS, lambda _: True, PATIENCE_S)
            except BaseException:
                sys.stderr.write((folder / "outer.log").read_text())
                raise
            finally:
                outer.send_signal(signal.SIGTERM)
                outer.wait(PATIENCE_S)
        best = result["predictions"][0]
        sys.stdout.write(
            f"{ended['status']}: {result['frame']['camera']} shows {best['label']} ({best['score']:.2f})\n"
        )
        return 0 if ended["status"] == "SUCCEEDED" and best["label"] == "Egyptian cat" else 1


def _step(name: str, call: Any, *arguments: Any) -> Any:
    began = time.monotonic()
    result = call(*arguments)
    sys.stdout.write(f"{name}: {time.monotonic() - began:.1f} s\n")
    sys.stdout.flush()
    return result


def _verge(folder: Path) -> dict[str, Any]:
    """The recipe of the component as it is begun, with wheels of the checkout, packed."""
    verge = [sys.executable, "-m", "agent", "component"]
    subprocess.run([*verge, "init", "greengrass", NAME, "--dir", str(folder)], check=True, stdout=subprocess.DEVNULL)
    wheels = ["wheel", "-q", "--wheel-dir", str(folder / NAME / "verge" / "wheels"), "."]
    subprocess.run([sys.executable, "-m", "pip", *wheels], check=True, stderr=subprocess.DEVNULL)
    out = folder / "build"
    base = (out / "artifacts").as_uri()
    subprocess.run([*verge, "pack", str(folder / NAME), "--out", str(out), "--base-uri", base], check=True)
    packed: dict[str, Any] = json.loads((out / "recipes" / f"{NAME}-1.0.0.json").read_text())
    return packed


def _camera(folder: Path) -> dict[str, Any]:
    """A component that publishes a picture locally, with Amazon's SDK."""
    script = folder / "camera.py"
    script.write_text(SENDS)
    picture = SAMPLES.parent / "images" / "chelsea.jpg"
    recipe = Fleet(folder / "fleet").scripts(CAMERA, Run=f"exec {sys.executable} {script} {picture}")
    return recipe | {"ComponentConfiguration": {"DefaultConfiguration": {"accessControl": ACCESS}}}


def _outer(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """The agent that serves as the nucleus; its own topics are not those of the inner one."""
    config = {
        "thing": "edge",
        "data_dir": str(folder / "data"),
        "transports": {"local": {"port": port}},
        "deployments": {"accept": "anyone-on-this-broker", "run_as": getpass.getuser()},
        "status": {"prefix": "outer/{thing}"},
        "ipc": {"iot_core": "broker"},
    }
    (folder / "outer.toml").write_text(tomli_w.dumps(config))
    with (folder / "outer.log").open("wb") as log:
        command = [sys.executable, "-m", "agent", "run", "-c", str(folder / "outer.toml")]
        return subprocess.Popen(command, stdout=log, stderr=log)


def _outcome(listener: Any) -> dict[str, Any]:
    def over(told: dict[str, Any]) -> bool:
        return told["status"] not in {"QUEUED", "IN_PROGRESS"}

    ended: dict[str, Any] = listener.wait("outer/edge/deployments/first", over, PATIENCE_S)
    return ended


if __name__ == "__main__":
    sys.exit(main())
