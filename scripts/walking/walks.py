"""The four walks; how files are counted stands in ``scripts.walking.__main__``."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.benchmarks import rig
from scripts.walking.site import BASE, PATIENCE_S, SETTLED_S, THING, Link, Site
from scripts.walking.tracer import Tracer, in_all

PICTURE = "chelsea.jpg"
EXPECTED = {"picture": PICTURE, "expect": {"label": "Egyptian cat", "score": 0.81, "tolerance": 0.3}}

KEYS = {
    "transports.local.max_queued_messages": 9_973,
    "transports.local.outbox.max_bytes": 104_395_303,
    "models.sample.deadline_s": 1_234.567,
    "streams.frames.depth": 4_507,
    "streams.frames.outputs.expiry_s": 86_413,
    "limits.max_bytes": 15_485_863,
    "deployments.cache_bytes": 9_876_543_211,
}
"""A key of each table, with a value that nothing else has."""

UNCHANGED = "no change"
MODEL = '[models.sample]\nsource = "classifier"\nthreads = 1\n'
FRAMES = f'{MODEL}[streams.frames]\nmodel = "sample"\ninput = {{ topic = "cameras/+/frame", qos = 1 }}\n'
FOLDER = f"""{MODEL}[streams.frames]
model = "sample"
input = {{ directory = {{ path = "{{folder}}", settle_s = 0.05, existing = true }} }}
outputs = [{{output}}]
"""
DEPLOYMENTS = '[deployments]\naccept = "anyone-on-this-broker"\nhealth = false\nshadow = false\n'


@dataclass(frozen=True)
class Walk:
    """The files of a walk in the order of first passage, and of the passages that they were taken from."""

    files: list[str]
    taken_from: Mapping[str, list[str]] = field(default_factory=dict)


def trace(root: Path, repeat: int) -> dict[str, Walk]:
    """Every walk through the checkout at ``root``, taken ``repeat`` times after a first passage that is not counted.

    They are taken at the same time, each on a site of its own: most of the time is spent on waiting for rest.
    """
    walks: dict[str, Callable[[Path, int], Walk]] = {"frame": frame, "job": job, "result": result, "key": key}
    with ThreadPoolExecutor() as threads:
        taken = {name: threads.submit(take, root, repeat) for name, take in walks.items()}
        return {name: walk.result() for name, walk in taken.items()}


def frame(root: Path, repeat: int) -> Walk:
    """A JPEG picture on a topic with QoS 1, until its result is published with QoS 1 and acknowledged."""
    with _site(root) as site:
        tracer = Tracer(site.work / "trace", root, {})
        with site.agent(FRAMES, tracer):
            link = Link(site.port, f"{BASE}/results/frames")
            picture = _picture(root)

            def passage(_: int) -> None:
                link.send("cameras/one/frame", picture)
                link.wait(f"{BASE}/results/frames")

            return Walk(_repeated(tracer, repeat, passage))


def result(root: Path, repeat: int) -> Walk:
    """A result to a topic with QoS 1 through an outbox, without what the same frame passes to a result in a file."""
    published = "[transports.local.outbox]\n" + FOLDER.replace("{output}", "{}")
    written = FOLDER.replace("{output}", '{ file = { path = "results.jsonl" } }')
    through, beside = (_folder_frame(root, repeat, body) for body in (published, written))
    return Walk([file for file in through if file not in beside], {"published": through, "written": beside})


def job(root: Path, repeat: int) -> Walk:
    """Jobs of four kinds, until SUCCEEDED is reported: what all of them pass."""
    with _site(root) as site, site.jobs():
        tracer = Tracer(site.work / "trace", root, {})
        with site.agent(DEPLOYMENTS, tracer):
            passages = _jobs(site, tracer, repeat)
    return Walk(in_all(passages.values()), passages)


def key(root: Path, _: int) -> Walk:
    """Seven keys, until the agent that was started with them is online and at rest: the one in the middle."""
    with _site(root) as site:
        tracer = Tracer(site.work / "trace", root, KEYS)
        tracer.follow()
        with site.agent(_keys(), tracer):
            tracer.close()
        passages = {name: tracer.holders(name) for name in KEYS}
    middle = sorted(passages, key=lambda name: len(passages[name]))[len(passages) // 2]
    return Walk(passages[middle], passages)


def _repeated(tracer: Tracer, repeat: int, passage: Callable[[int], None]) -> list[str]:
    """What each passage ran but for the first, which imports and makes what the later ones find."""
    passages = []
    for number in range(repeat + 1):
        with tracer.window() as window:
            passage(number)
        passages.append(tracer.files(window))
        if not number:
            time.sleep(SETTLED_S)
    return in_all(passages[1:])


def _folder_frame(root: Path, repeat: int, body: str) -> list[str]:
    """What a frame from a folder passes, to a topic or to the file ``results.jsonl``."""
    with _site(root) as site:
        folder, results = site.work / "frames", site.work / "results.jsonl"
        folder.mkdir()
        results.touch()
        tracer = Tracer(site.work / "trace", root, {})
        with site.agent(body.replace("{folder}", str(folder)), tracer):
            link = Link(site.port, f"{BASE}/results/frames")
            picture = _picture(root)

            def passage(number: int) -> None:
                (folder / f"{number}.jpg").write_bytes(picture)
                if "file" in body:
                    _until(lambda: results.read_text().count("\n") > number)
                else:
                    link.wait(f"{BASE}/results/frames")

            return _repeated(tracer, repeat, passage)


def _jobs(site: Site, tracer: Tracer, repeat: int) -> dict[str, list[str]]:
    """What the jobs of each kind passed."""
    numbers = itertools.count()
    reports = f"$aws/things/{THING}/jobs"
    passages: dict[str, list[list[str]]] = {}
    for round_ in range(repeat + 1):
        for kind, document in _documents(site, round_).items():
            name = f"walks-{next(numbers)}"
            link = Link(site.port, f"{reports}/{name}/update")
            if kind == UNCHANGED:
                time.sleep(SETTLED_S)  # what is still published of the change before is none of this one's
            with tracer.window() as window:
                site.create_job(name, document)
                link.wait(f"{reports}/{name}/update", status="SUCCEEDED")
            link.close()
            passages.setdefault(kind, []).append(tracer.files(window))
    return {kind: in_all(taken[1:]) for kind, taken in passages.items()}


def _documents(site: Site, number: int) -> dict[str, dict[str, Any]]:
    """Deployments in the order in which they are made, each of its kind."""
    model, stream = "walks.Model", "walks.Stream"
    components: dict[str, Any] = {model: {"version": f"1.0.{number}"}, stream: {"version": "1.0.0"}}
    setting = {"merge": json.dumps({"Verge": {"MaxAgeMs": 1000 + number}})}
    verge = {"Model": model, "Input": {"Topic": "cameras/+/frame"}, "Run": {"Threads": 1}}
    recipes = [
        _recipe(model, f"1.0.{number}", "verge.model") | {"Manifests": [{"Artifacts": [_archive(site, number)]}]},
        _recipe(stream, "1.0.0", "verge.inference")
        | {
            "ComponentDependencies": {model: {"VersionRequirement": "*"}},
            "ComponentConfiguration": {"DefaultConfiguration": {"Verge": verge}},
            "Manifests": [{}],
        },
    ]
    changed = {**components, stream: {"version": "1.0.0", "configurationUpdate": setting}}
    return {
        "a model": {"components": components, "recipes": recipes},
        "a setting": {"components": changed},
        "an end": {"components": {}},
        UNCHANGED: {"components": {}},
    }


def _recipe(name: str, version: str, kind: str) -> dict[str, Any]:
    head = {"RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version}
    return head | {"ComponentType": kind}


def _archive(site: Site, number: int) -> dict[str, str]:
    """A model with a golden frame, in an archive that no other has the digest of."""
    archive = site.work / f"model-{number}.zip"
    samples = site.root / "agent" / "samples"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (samples / "models" / "classifier").iterdir():
            packed.write(path, path.name)
        packed.write(samples / "images" / PICTURE, f"golden/{PICTURE}")
        packed.writestr("golden/expected.json", json.dumps({"pictures": [EXPECTED]}))
        packed.writestr("number.txt", str(number))
    digest = base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode()
    return {"Uri": archive.as_uri(), "Unarchive": "ZIP", "Digest": digest, "Algorithm": "SHA-256"}


def _keys() -> str:
    """The TOML text with each of ``KEYS``; it begins inside of ``[transports.local]``."""
    return f"""
max_queued_messages = {KEYS["transports.local.max_queued_messages"]}
[transports.local.outbox]
max_bytes = {KEYS["transports.local.outbox.max_bytes"]}
{MODEL}
deadline_s = {KEYS["models.sample.deadline_s"]}
[streams.frames]
model = "sample"
input = {{ topic = "cameras/+/frame", qos = 1 }}
policy = "fifo"
depth = {KEYS["streams.frames.depth"]}
outputs = [{{ expiry_s = {KEYS["streams.frames.outputs.expiry_s"]} }}]
[limits]
max_bytes = {KEYS["limits.max_bytes"]}
{DEPLOYMENTS}
cache_bytes = {KEYS["deployments.cache_bytes"]}
"""


@contextlib.contextmanager
def _site(root: Path) -> Iterator[Site]:
    with rig.folder() as work, rig.mosquitto(work) as broker:
        yield Site(work, broker.port, root)


def _picture(root: Path) -> bytes:
    return (root / "agent" / "samples" / "images" / PICTURE).read_bytes()


def _until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > give_up:
            raise SystemExit(f"walks: no result came within {PATIENCE_S:g} s")
        time.sleep(0.01)
