"""Every number and text that a person can set is bounded, and each bound holds wherever the value is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from agent.config.aws import AwsOptions
from agent.config.deployments import DeploymentOptions
from agent.config.load import Config, parse
from agent.config.models import ModelOptions
from agent.config.streams import SnapshotOptions, StreamOptions
from agent.config.transports import MqttOptions, OutboxOptions
from agent.errors import ConfigError
from agent.greengrass.deployments import blocks
from agent.greengrass.deployments.blocks import InferenceBlock, ModelBlock, RuntimeBlock
from agent.greengrass.errors import DeploymentError

READ_FROM_OUTSIDE = (Config, InferenceBlock, ModelBlock, RuntimeBlock)
FREE = {"Config.folder", "InferenceBlock.notes"}
"""No keys of any file."""


def leaves(info: Any, place: str, seen: frozenset[type] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Every number and text within a type, with the struct and field where it stands."""
    if isinstance(info, inspect.Metadata):
        yield from leaves(info.type, place, seen)
    elif isinstance(info, inspect.UnionType):
        for one in info.types:
            yield from leaves(one, place, seen)
    elif isinstance(info, inspect.StructType) and info.cls not in seen:
        for field in info.fields:
            yield from leaves(field.type, f"{info.cls.__name__}.{field.name}", seen | {info.cls})
    elif isinstance(info, inspect.DictType):
        if not isinstance(info.value_type, inspect.AnyType):
            yield from leaves(info.value_type, place, seen)
    elif isinstance(info, inspect.VarTupleType):
        yield from leaves(info.item_type, place, seen)
    elif isinstance(info, (inspect.IntType, inspect.FloatType, inspect.StrType)):
        yield place, info


LEAVES = [leaf for kind in READ_FROM_OUTSIDE for leaf in leaves(inspect.type_info(kind), kind.__name__)]


def test_every_number_has_a_least_and_a_most() -> None:
    numbers = [(place, info) for place, info in LEAVES if not isinstance(info, inspect.StrType)]
    endless = {
        place
        for place, info in numbers
        if (info.ge is None and info.gt is None) or (info.le is None and info.lt is None)
    }
    assert endless == set()
    assert {"ModelOptions.deadline_s", "MqttOptions.max_queued_messages", "FrameLimits.max_bytes"} <= {
        place for place, _ in numbers
    }


def test_every_text_has_a_longest_or_a_pattern() -> None:
    texts = [(place, info) for place, info in LEAVES if isinstance(info, inspect.StrType)]
    endless = {place for place, info in texts if info.max_length is None and info.pattern is None}
    assert endless - FREE == set()
    assert len(texts) > 50


STREAM = {"model": "m", "input": {}}


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        (Config, {}),
        (ModelOptions, {"source": "m"}),
        (StreamOptions, STREAM),
        (InferenceBlock, {"stream": STREAM}),
        (ModelBlock, {}),
        (RuntimeBlock, {"runtime": "litert"}),
        *[(kind, {}) for kind in (MqttOptions, OutboxOptions, DeploymentOptions, AwsOptions, SnapshotOptions)],
    ],
)
def test_what_is_meant_where_nothing_is_said_keeps_to_the_bounds(kind, least) -> None:
    made = msgspec.convert(least, kind)  # does not check defaults
    plain = msgspec.to_builtins(made, enc_hook=str)
    plain.pop("folder", None)
    assert msgspec.convert(plain, kind) == made


OUTSIDE = [
    ("models.eyes", "deadline_s", -1),
    ("models.eyes", "deadline_s", 0),
    ("models.eyes", "deadline_s", float("inf")),
    ("models.eyes", "deadline_s", float("nan")),
    ("models.eyes", "workers", -3),
    ("models.eyes", "workers", 0),
    ("models.eyes", "workers", 10**9),
    ("models.eyes", "threads", -1),
    ("models.eyes", "load_timeout_s", 0),
    ("models.eyes", "memory_mb", -5),
    ("transports.local", "max_queued_messages", -1),
    ("transports.local", "max_queued_bytes", 0),
    ("transports.local", "keepalive_s", -1),
    ("transports.local", "keepalive_s", 65_536),
    ("transports.local", "connect_timeout_s", 0),
    ("transports.local", "session_expiry_s", -1),
    ("transports.local", "receive_maximum", 0),
    ("transports.local", "max_packet_bytes", 0),
    ("transports.local", "backoff_base_s", -0.5),
    ("transports.local", "backoff_cap_s", float("inf")),
    ("transports.local", "host", ""),
    ("transports.local", "client_id", "a\0b"),
    ("limits", "max_bytes", -1),
    ("limits", "max_pixels", 0),
    ("limits", "max_json_depth", 0),
    ("streams.line", "depth", 0),
    ("streams.line", "drain_s", float("inf")),
    ("streams.line", "max_age_ms", -1),
    ("status", "statistics_interval_s", float("inf")),
]


def set_at(place: str, key: str, value: object) -> dict[str, Any]:
    values: dict[str, Any] = {
        "transports": {"local": {}},
        "models": {"eyes": {"source": "classifier"}},
        "streams": {"line": {"model": "eyes", "input": {"topic": "a"}}},
    }
    table = values
    for step in place.split("."):
        table = table.setdefault(step, {})
    table[key] = value
    return values


@pytest.mark.parametrize(("place", "key", "value"), OUTSIDE)
def test_the_configuration_refuses_what_is_out_of_bounds_with_its_path(place, key, value) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(set_at(place, key, value), "f.toml", Path(), {})
    assert (refused.value.code, refused.value.path) == ("wrong-value", f"{place}.{key}")


@pytest.mark.parametrize(("key", "value"), [(key, value) for place, key, value in OUTSIDE if place == "models.eyes"])
def test_a_recipe_s_block_refuses_the_same(key, value) -> None:
    block = {"Model": "m", "Input": {"Topic": "a"}, "Run": {key: value}}
    with pytest.raises(DeploymentError) as refused:
        blocks.inference("c", {"Verge": block}, {"m": None})
    assert refused.value.code == "COMPONENT_CONFIGURATION_NOT_VALID"
    assert refused.value.path == f"Verge.Run.{key}"


def test_a_text_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(set_at("transports.local", "host", "a b"), "f.toml", Path(), {})
    assert refused.value.message == "transports.local.host in f.toml: expected a host's name or address"
