"""What a fleet's owner has: packed models and recipes, edited in place, sent as documents."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from agent.inference.manifest import SAMPLES
from tests.support import unruly
from tests.support.agent import Agent

SHELL = "aws.greengrass.generic"


class Fleet:
    """Recipes and artifacts below a folder; everything a document brings is in the document."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def model(
        self, name: str, version: str = "1.0.0", *, cues: str = "", golden: Any = None, **more: Any
    ) -> dict[str, Any]:
        """A model component that the unruly backend runs; ``golden`` is what a grey picture should give."""
        files = {"model.unruly": cues.encode(), "labels.txt": b"calm\nfine\nodd\n"}
        files["manifest.toml"] = b'file = "model.unruly"\nlabels = "labels.txt"\nbackend = "unruly:Unruly"\n'
        if golden is not None:
            expected = {"pictures": [{"picture": "grey.jpg", "expect": golden}]}
            files["golden/grey.jpg"] = unruly.jpeg("answer")
            files["golden/expected.json"] = json.dumps(expected).encode()
        return self.packed(name, version, files, **more)

    def sample(self, name: str, sample: str, version: str = "1.0.0") -> dict[str, Any]:
        """A model component that holds a shipped sample."""
        return self.packed(name, version, {path.name: path.read_bytes() for path in (SAMPLES / sample).iterdir()})

    def packed(
        self, name: str, version: str, files: dict[str, bytes], *, digest: str | None = None, damage: bool = False
    ) -> dict[str, Any]:
        """A model component whose files are in an archive."""
        archive = self.folder / f"{name}-{version}.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for path, content in files.items():
                packed.writestr(zipfile.ZipInfo(path), content)
        told = base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode()
        if damage:
            archive.write_bytes(archive.read_bytes()[:-30])
        artifact = {"Uri": f"file://{archive}", "Unarchive": "ZIP", "Digest": digest or told, "Algorithm": "SHA-256"}
        return recipe(name, version, "verge.model", Manifests=[{"Artifacts": [artifact]}])

    def stream(self, name: str, model: str, topic: str, version: str = "1.0.0", **verge: Any) -> dict[str, Any]:
        """An inference component over a model component."""
        block = {"Model": model, "Input": {"topic": topic, "qos": 1}, "Policy": "fifo", "Depth": 200} | verge
        return recipe(
            name, version, "verge.inference",
            ComponentDependencies={model: {"VersionRequirement": "*"}},
            ComponentConfiguration={"DefaultConfiguration": {"Verge": block}},
            Manifests=[{}],
        )  # fmt: skip

    def scripts(self, name: str, version: str = "1.0.0", **lifecycle: Any) -> dict[str, Any]:
        """A generic component."""
        return recipe(name, version, SHELL, Manifests=[{"Lifecycle": lifecycle}])


def recipe(name: str, version: str, kind: str, **more: Any) -> dict[str, Any]:
    head = {"RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version}
    return head | {"ComponentType": kind} | more


def document(identity: str, recipes: list[dict[str, Any]], wanted: dict[str, str], **more: Any) -> dict[str, Any]:
    components = {
        name: {"version": version, "configurationUpdate": {"reset": [""]}} for name, version in wanted.items()
    }
    return {"deploymentId": identity, "components": components, "recipes": recipes} | more


def send(agent: Agent, told: dict[str, Any]) -> None:
    agent.peer.publish(agent.topic("deployments"), json.dumps(told))


def outcome(agent: Agent, identity: str, timeout_s: float = 30.0) -> dict[str, Any]:
    """How a deployment ended."""
    topic = agent.topic(f"deployments/{identity}")
    return agent.peer.wait(topic, lambda told: told["status"] not in {"QUEUED", "IN_PROGRESS"}, timeout_s)


def deploy(agent: Agent, told: dict[str, Any]) -> dict[str, Any]:
    send(agent, told)
    return outcome(agent, told["deploymentId"])
