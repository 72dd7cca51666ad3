"""The shadow manager's configuration, with Greengrass's names and defaults."""

from __future__ import annotations

from typing import Any

import pytest

from agent.greengrass.errors import DeploymentError
from agent.greengrass.services.shadows.merging import Direction
from agent.greengrass.services.shadows.names import ShadowKey
from agent.greengrass.services.shadows.options import ShadowOptions, options_of


def test_without_a_word_nothing_is_synchronised_and_the_limits_are_those_of_a_nucleus() -> None:
    options = options_of({}, "core")
    assert options == ShadowOptions((), Direction.BOTH, 0.0, 100, 200, 20, 8192)
    assert options_of({"synchronize": {}}, "core") == options
    assert options_of({"shadowDocumentSizeLimitBytes": 0}, "core") == options


def test_everything_that_a_nucleus_knows_is_read() -> None:
    options = options_of(
        {
            "strategy": {"type": "periodic", "delay": "30"},
            "synchronize": {
                "direction": "deviceToCloud",
                "coreThing": {"classic": False, "namedShadows": ["a", "b"]},
                "shadowDocumentsMap": {"other": {"namedShadows": ["c"]}, "silent": {"classic": "false"}},
                "shadowDocuments": [{"thingName": "other", "classic": True}, {"thingName": "third"}],
            },
            "rateLimits": {
                "maxOutboundSyncUpdatesPerSecond": 5,
                "maxTotalLocalRequestsRate": 50,
                "maxLocalRequestsPerSecondPerThing": 4,
            },
            "shadowDocumentSizeLimitBytes": "30720",
        },
        "core",
    )
    assert options.synchronised == (
        ShadowKey("core", "a"), ShadowKey("core", "b"), ShadowKey("other"), ShadowKey("other", "c"), ShadowKey("third"),
    )  # fmt: skip
    assert (options.direction, options.period_s) == (Direction.TO_CLOUD, 30.0)
    assert (options.outbound_per_s, options.requests_per_s, options.requests_per_thing_s) == (5, 50, 4)
    assert options.max_bytes == 30_720


def test_a_period_that_is_not_given_is_five_minutes() -> None:
    assert options_of({"strategy": {"type": "periodic"}}, "core").period_s == 300


def test_keys_match_in_any_case_and_others_are_ignored() -> None:
    options = options_of({"Synchronize": {"CORETHING": {"Classic": True, "more": 1}}, "more": 1}, "core")
    assert options.synchronised == (ShadowKey("core"),)


@pytest.mark.parametrize(
    ("configuration", "path"),
    [
        ({"synchronize": 1}, "synchronize"),
        ({"synchronize": {"direction": "up"}}, "synchronize.direction"),
        ({"synchronize": {"direction": ["up"]}}, "synchronize.direction"),
        ({"synchronize": {"coreThing": []}}, "synchronize.coreThing"),
        ({"synchronize": {"coreThing": {"classic": "yes"}}}, "synchronize.coreThing.classic"),
        ({"synchronize": {"coreThing": {"namedShadows": "a"}}}, "synchronize.coreThing.namedShadows"),
        ({"synchronize": {"coreThing": {"namedShadows": ["a b"]}}}, "synchronize.coreThing"),
        ({"synchronize": {"coreThing": {"namedShadows": [1]}}}, "synchronize.coreThing"),
        ({"synchronize": {"coreThing": {"namedShadows": [str(n) for n in range(1000)]}}}, "synchronize"),
        ({"synchronize": {"shadowDocumentsMap": {"a b": {}}}}, "synchronize.shadowDocumentsMap.a b"),
        ({"synchronize": {"shadowDocumentsMap": {"a": 1}}}, "synchronize.shadowDocumentsMap.a"),
        ({"synchronize": {"shadowDocuments": {}}}, "synchronize.shadowDocuments"),
        ({"synchronize": {"shadowDocuments": [{}]}}, "synchronize.shadowDocuments[0]"),
        ({"synchronize": {"shadowDocuments": [1]}}, "synchronize.shadowDocuments[0]"),
        ({"strategy": {"type": "hourly"}}, "strategy.type"),
        ({"strategy": {"type": ["periodic"]}}, "strategy.type"),
        ({"strategy": {"type": "periodic", "delay": 0}}, "strategy.delay"),
        ({"rateLimits": {"maxOutboundSyncUpdatesPerSecond": 0}}, "rateLimits.maxOutboundSyncUpdatesPerSecond"),
        ({"rateLimits": {"maxTotalLocalRequestsRate": "x"}}, "rateLimits.maxTotalLocalRequestsRate"),
        ({"shadowDocumentSizeLimitBytes": 30_721}, "shadowDocumentSizeLimitBytes"),
        ({"shadowDocumentSizeLimitBytes": -1}, "shadowDocumentSizeLimitBytes"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place_and_what_to_write(configuration: Any, path: str) -> None:
    with pytest.raises(DeploymentError) as caught:
        options_of(configuration, "core")
    assert (caught.value.code, caught.value.path) == ("COMPONENT_CONFIGURATION_NOT_VALID", path)
    assert caught.value.hint
