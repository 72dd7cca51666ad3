"""The nucleus's configuration: what of it the agent honours, and what it says of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from agent.greengrass.deployments import nucleus
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.nucleus import NucleusSettings
from agent.greengrass.deployments.request import Deployment, Origin, RunWith
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes.configuration import Tree

NUCLEUS = "aws.greengrass.Nucleus"


def merging(values: dict[str, Any], name: str = NUCLEUS, **more: Any) -> Deployment:
    component = {"version": "2.12.6", "configurationUpdate": {"merge": values, **more}}
    return parse({"components": {name: component}}, source=Origin.JOB, received_ms=5000)


def test_what_is_honoured_is_read_in_any_case_and_as_text_or_as_it_is() -> None:
    found = nucleus.settings(
        {},
        merging(
            {
                "platformoverride": {"gpu": "nvidia", "cores": 4},
                "interpolateComponentConfiguration": "True",
                "runWithDefault": {
                    "posixUser": "ggc_user:ggc_group",
                    "posixShell": "bash",
                    "systemResourceLimits": {"cpus": 1.5, "memory": "102400"},
                },
                "deploymentConfigurationTimeSource": "deploymentProcessingTime",
                "logging": {"Level": "warn", "fileSizeKB": "512", "totalLogsSizeKB": 2048},
                "componentStoreMaxSizeBytes": "1000000",
                "fleetStatus": {"periodicStatusPublishIntervalSeconds": 172800},
            }
        ),
    )
    assert found == NucleusSettings(
        platform={"gpu": "nvidia", "cores": 4},
        interpolate=True,
        run_with=RunWith("ggc_user:ggc_group", memory_kb=102_400, cpus=1.5),
        shell="bash",
        by_processing_time=True,
        log_level="WARNING",
        log_file_bytes=512 * 1024,
        log_total_bytes=2048 * 1024,
        store_bytes=1_000_000,
        cadence_s=172_800.0,
    )


def test_without_a_configuration_nothing_changes() -> None:
    nothing = parse({"components": {}}, source=Origin.JOB, received_ms=1)
    assert nucleus.settings({}, nothing) == NucleusSettings()
    assert nucleus.kept({}, {}, nothing) == {}
    assert nucleus.kept({}, {NUCLEUS: Tree()}, nothing) == {}


def test_a_configured_nucleus_leaves_with_no_group_and_a_reset_ends_that() -> None:
    nothing = parse({"components": {}}, source=Origin.JOB, received_ms=1)
    configs = {NUCLEUS: Tree.of({"interpolateComponentConfiguration": True}, 5)}
    assert nucleus.settings(configs, nothing).interpolate
    assert nucleus.kept({}, configs, nothing).keys() == {NUCLEUS}
    assert nucleus.settings(configs, merging({}, reset=[""])) == NucleusSettings()


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"platformOverride": "gpu"}, "platformOverride"),
        ({"interpolateComponentConfiguration": "yes"}, "interpolateComponentConfiguration"),
        ({"deploymentConfigurationTimeSource": "now"}, "deploymentConfigurationTimeSource"),
        ({"logging": {"level": "LOUD"}}, "logging.level"),
        ({"logging": {"fileSizeKB": "-1"}}, "logging.fileSizeKB"),
        ({"runWithDefault": {"posixUser": 7}}, "runWithDefault.posixUser"),
        ({"runWithDefault": {"systemResourceLimits": {"cpus": 0}}}, "runWithDefault.systemResourceLimits.cpus"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(values, key) -> None:
    with pytest.raises(DeploymentError) as refused:
        nucleus.settings({}, merging(values))
    assert (refused.value.code, refused.value.path) == ("COMPONENT_CONFIGURATION_NOT_VALID", key)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"logging": {"format": "JSON"}}, "logging.format is kept and has no effect in this agent"),
        (
            {"mqtt": {"keepAliveTimeoutMs": 1}},
            "mqtt.keepAliveTimeoutMs is kept and has no effect in this agent; set keepa",
        ),
        ({"mqtt": {"spooler": {"maxSizeInBytes": 1}}}, "mqtt.spooler.maxSizeInBytes is kept and has no effect"),
        ({"mqtt": {"version": "mqtt5"}}, "mqtt.version is kept and has no effect in this agent"),
        ({"jvmOptions": "-Xmx64m"}, "there is no Java machine"),
        ({"Telemetry": {"enabled": False}}, "Telemetry is kept and has no effect in this agent"),
        (
            {"platformOveride": {}},
            "has no key platformOveride: it is kept and ignored (did you mean platformOverride?)",
        ),
        ({"runWithDefault": {"windowsUser": "w"}}, "runWithDefault.windowsUser is kept and has no effect"),
    ],
)
def test_what_has_no_effect_is_said_with_what_to_set_in_its_place(values, note) -> None:
    (told,) = nucleus.notes(merging(values))
    assert told.startswith(NUCLEUS)
    assert note in told


def test_nothing_is_said_of_what_is_honoured_nor_of_other_components() -> None:
    honoured = {"platformOverride": {}, "runWithDefault": {"posixUser": "a"}, "interpolateComponentConfiguration": True}
    assert nucleus.notes(merging(honoured)) == ()
    assert nucleus.notes(merging({"anything": 1}, "com.example.A")) == ()
    (told,) = nucleus.notes(merging({"activePort": 8080}, "aws.greengrass.TokenExchangeService"))
    assert "activePort is kept and has no effect" in told


def test_a_component_s_own_user_and_limits_go_before_the_defaults() -> None:
    usual = RunWith("ggc_user", memory_kb=100, cpus=1.0)
    assert RunWith().or_else(usual) == usual
    assert RunWith("www", cpus=2.0).or_else(usual) == RunWith("www", memory_kb=100, cpus=2.0)
