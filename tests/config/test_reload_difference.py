"""What of a changed configuration a running agent takes, and what it leaves for a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.config.load import Config, parse
from agent.config.reload import difference

BARE: dict[str, Any] = {
    "thing": "box",
    "data_dir": "data",
    "transports": {"local": {}},
    "models": {"m": {"source": "classifier"}},
    "streams": {"s": {"model": "m", "input": {"topic": "a/+"}}},
    "deployments": {"jobs": False},
}


def config(**changes: Any) -> Config:
    return parse(BARE | changes, "f", Path("/etc"), {})


@pytest.mark.parametrize(
    ("changes", "taken", "restart"),
    [
        ({}, (), ()),
        ({"log_level": "debug"}, ("log_level",), ()),
        ({"streams": {"s": {"model": "m", "input": {"topic": "b/+"}}}}, ("streams.s",), ()),
        ({"streams": {}}, ("streams.s",), ()),
        (
            {"streams": BARE["streams"] | {"t": {"model": "m", "input": {"topic": "b/+"}}}},
            ("streams.t",),
            (),
        ),
        (
            {
                "models": {"m": {"source": "classifier"}, "n": {"source": "detector"}},
                "streams": BARE["streams"] | {"t": {"model": "n", "input": {"topic": "b/+"}}},
            },
            ("models.n", "streams.t"),
            (),
        ),
        ({"models": {"m": {"source": "detector"}}}, ("models.m", "streams.s"), ()),
        ({"transports": {"local": {"port": 1}}}, (), ("transports.local",)),
        ({"thing": "other", "data_dir": "else"}, (), ("thing", "data_dir")),
        ({"deployments": {"jobs": False, "trusted_keys": ["k.pub"]}}, ("deployments.trusted_keys",), ()),
        (
            {"deployments": {"jobs": True, "trusted_keys": ["k.pub"]}},
            ("deployments.trusted_keys",),
            ("deployments.jobs",),
        ),
        ({"deployments": {"jobs": False, "trust_list": "l"}}, (), ("deployments.trust_list",)),
    ],
)
def test_the_difference_of_two_configurations(changes, taken, restart) -> None:
    change = difference(config(), config(**changes))
    assert (change.taken, change.restart) == (taken, restart)


def test_without_deployments_before_they_need_a_restart() -> None:
    without = {key: value for key, value in BARE.items() if key != "deployments"}
    change = difference(parse(without, "f", Path("/etc"), {}), config())
    assert (change.taken, change.restart) == ((), ("deployments",))
