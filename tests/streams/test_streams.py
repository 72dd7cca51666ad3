"""What an input of the configuration means, and what is wrong with one that means nothing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from agent.config.load import parse
from agent.config.streams import CameraOptions, DirectoryOptions, InputOptions, Policy, StreamOptions, problems
from agent.errors import ConfigError
from agent.streams.streams import same_source

FOLDER = {"directory": {"path": "pictures"}}
CAMERA = {"camera": {"source": 0}}
TOPIC = {"topic": "cameras/+"}


def refusals(wish: dict) -> list[ConfigError]:
    return list(problems(StreamOptions(model="m", input=msgspec.convert(wish, InputOptions))))


@pytest.mark.parametrize(
    "wish",
    [
        TOPIC,
        FOLDER,
        CAMERA,
        FOLDER | {"interval_s": 0.5},
        TOPIC | {"interval_s": 3600},
        {"directory": {"path": "/pictures", "name": "cat.JPG", "pick": "next"}},
        {"camera": {"source": "rtsp://cam/1", "fourcc": "MJPG", "width": 640, "height": 480, "fps": 15}},
    ],
)
def test_one_source_with_or_without_an_interval_is_an_input(wish) -> None:
    assert refusals(wish) == []


@pytest.mark.parametrize(
    ("wish", "key", "code"),
    [
        ({}, "", "input-source"),
        (TOPIC | CAMERA, "", "input-source"),
        (FOLDER | CAMERA, "", "input-source"),
        ({"topic": "a/#/b"}, "topic", "bad-topic"),
        (CAMERA | {"interval_s": 0.001}, "interval_s", "bad-interval"),
        ({"camera": {"source": ""}}, "camera.source", "bad-camera"),
        ({"directory": {"path": ""}}, "directory.path", "bad-directory"),
        ({"directory": {"path": "p", "name": ""}}, "directory.name", "bad-directory"),
        ({"directory": {"path": "p", "name": "../cat.jpg"}}, "directory.name", "bad-directory"),
        ({"directory": {"path": "p", "name": "cat.gif"}}, "directory.name", "bad-directory"),
    ],
)
def test_anything_else_is_refused_by_the_key_it_is_about(wish, key, code) -> None:
    (found,) = refusals(wish)
    assert (found.path, found.code) == (f"input.{key}".rstrip("."), code)
    assert found.hint


def test_the_configuration_names_the_place(tmp_path) -> None:
    told = {
        "transports": {"local": {}},
        "models": {"m": {"source": "classifier"}},
        "streams": {"line": {"model": "m", "input": {"directory": {"path": "p", "name": "cat.gif"}}}},
    }
    with pytest.raises(ConfigError) as refused:
        parse(told, "verge.toml", tmp_path, {})
    assert refused.value.message.startswith("streams.line.input.directory.name in verge.toml: 'cat.gif'")


def test_the_inputs_that_the_sample_configuration_shows_are_inputs() -> None:
    text = (Path(__file__).parents[2] / "configs" / "local.toml").read_text()
    shown = re.findall(r"^#     (\{.*\})", text, re.MULTILINE)
    inputs = [tomllib.loads(f"input = {line}")["input"] for line in shown]
    assert len(inputs) >= 5
    assert [refusals(wish) for wish in inputs] == [[]] * len(inputs)


def stream(policy: Policy = Policy.LATEST, **wish) -> StreamOptions:
    return StreamOptions(model="m", input=InputOptions(**wish), policy=policy)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (stream(topic="a"), stream(topic="a", interval_s=2), True),
        (stream(topic="a"), stream(topic="b"), False),
        (stream(topic="a"), stream(topic="a", qos=1), False),
        (stream(topic="a"), stream(Policy.ALL, topic="a"), False),
        (stream(topic="a"), stream(Policy.FIFO, topic="a"), True),
        (stream(camera=CameraOptions(source=0)), stream(camera=CameraOptions(source=0), interval_s=2, qos=1), True),
        (stream(camera=CameraOptions(source=0)), stream(camera=CameraOptions(source=1)), False),
        (stream(camera=CameraOptions(source=0)), stream(Policy.ALL, camera=CameraOptions(source=0)), True),
        (
            stream(directory=DirectoryOptions(path="p"), interval_s=2),
            stream(directory=DirectoryOptions(path="p"), interval_s=3),
            True,
        ),
        (
            stream(directory=DirectoryOptions(path="p"), interval_s=2),
            stream(directory=DirectoryOptions(path="p")),
            False,
        ),
        (stream(topic="a"), stream(camera=CameraOptions(source=0)), False),
    ],
)
def test_a_source_stays_unless_what_it_is_changes(one, other, same) -> None:
    assert same_source(one, other) is same
    assert same_source(other, one) is same


def test_relative_paths_start_at_the_folder_of_the_configuration() -> None:
    from agent.streams.streams import source  # noqa: PLC0415

    made = source(
        stream(directory=DirectoryOptions(path="pictures", name="cat.jpg")), {}, Path("/etc/verge"), max_bytes=1,
        changed=lambda: None,
    )  # fmt: skip
    assert made.name == "/etc/verge/pictures/cat.jpg"
