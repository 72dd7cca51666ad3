"""The one list of the topics that a configuration needs is what the agent really uses."""

from __future__ import annotations

from pathlib import Path

import pytest

import agent
from agent.config.load import Config, load, parse
from agent.doctor.needs import Direction, Need, needs
from agent.topics import valid_filter, valid_topic

CONFIGS = Path(agent.__file__).parents[1] / "configs"
CLOUD = {"type": "iotcore", "endpoint": "a.example", "cert_file": "c", "key_file": "k"}
BASE = {"thing": "t", "transports": {"local": {}, "cloud": CLOUD}, "models": {"m": {"source": "detector"}}}


def config(streams: dict, **more) -> Config:
    told = BASE | {"streams": {name: {"model": "m"} | stream for name, stream in streams.items()}} | more
    return parse(told, "test", Path(), {})


def told(found: tuple[Need, ...], transport: str, direction: Direction) -> list[str]:
    return [one.topic for one in found if (one.transport, one.direction) == (transport, direction)]


def test_a_stream_needs_its_input_its_outputs_and_its_snapshots_where_they_are() -> None:
    streams = {
        "line/3": {
            "input": {"topic": "cameras/+/frame"},
            "outputs": [
                {"transport": "cloud", "topic": "verge/{thing}/results/{stream}/{camera}"},
                {"transport": "cloud", "topic": "x/label-{label}/y"},
                {"file": {"path": "results.jsonl"}},
            ],
            "snapshots": {"topic": "verge/{thing}/snapshots/{stream}"},
        },
        "door": {"input": {"camera": {"source": 0}, "transport": "cloud"}},
    }
    found = needs(config(streams))
    assert told(found, "local", Direction.SUBSCRIBE) == ["cameras/+/frame"]
    assert told(found, "local", Direction.PUBLISH)[4:] == ["verge/t/snapshots/line_3"]
    assert told(found, "cloud", Direction.PUBLISH) == ["verge/t/results/line_3/+", "x/+/y", "verge/t/results/door"]


def test_what_the_agent_says_of_itself_is_needed_where_it_says_it() -> None:
    said = ["verge/t/status", "verge/t/components/+", "verge/t/streams/+", "verge/t/transports/+"]
    assert told(needs(config({})), "local", Direction.PUBLISH) == said
    assert told(needs(config({}, status={"transport": "cloud"})), "cloud", Direction.PUBLISH) == said


def test_what_is_switched_off_is_not_needed() -> None:
    off = {"transport": "cloud", "jobs": False, "shadow": False, "health": False}
    found = needs(config({}, deployments=off))
    assert told(found, "cloud", Direction.SUBSCRIBE) == ["verge/t/deployments", "verge/t/deployments/get"]
    assert told(found, "cloud", Direction.PUBLISH) == ["verge/t/deployments/+"]
    assert not any(one.transport == "cloud" for one in needs(config({})))


def test_other_prefixes_are_kept_to() -> None:
    found = needs(config({}, deployments={"aws_prefix": "verge/aws"}, status={"prefix": "site/{thing}"}))
    assert {one.topic.split("/")[0] for one in found} == {"verge", "site"}


def test_basic_ingest_changes_what_has_to_be_allowed() -> None:
    streams = {"line": {"input": {"topic": "f"}, "outputs": [{"transport": "cloud"}]}}
    transports = {"local": {}, "cloud": CLOUD | {"basic_ingest": {"rule": "vergeResults"}}}
    found = needs(config(streams, transports=transports))
    assert told(found, "cloud", Direction.PUBLISH) == ["$aws/rules/vergeResults/verge/t/results/line"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_need_is_a_filter_that_iot_core_takes_and_every_probe_a_topic_below_it(path) -> None:
    for need in needs(load(path, {})):
        assert valid_filter(need.topic)
        assert need.topic.count("/") <= 7
        assert need.why
        if need.probe is not None:
            assert need.direction is Direction.PUBLISH
            assert valid_topic(need.probe.topic)
            assert not need.probe.retain or not need.probe.payload  # an empty one keeps nothing
