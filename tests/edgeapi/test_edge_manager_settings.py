"""AWS's own JSON file and component parameters: each key, numbers as texts, what is unknown or empty."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.edgeapi import CaptureOptions, EdgeManagerOptions
from agent.edgeapi.edge_manager.settings import Settings, of_component, of_json
from agent.errors import ConfigError
from agent.greengrass.catalog.entries import recipe, versions

CLOUD = {
    "core_device_name": "box-7",
    "core_iot_thing_name": "thing-7",
    "core_device_fleet_name": "north",
    "core_region": "us-west-2",
    "core_root_certs_path": "/roots",
    "core_capture_data_destination": "Cloud",
    "core_capture_data_disk_path": "/captures",
    "core_folder_prefix": "pre",
    "core_capture_data_buffer_size": 30,
    "core_capture_data_batch_size": 10,
    "core_capture_data_push_period_seconds": 4,
    "core_capture_data_base64_embed_limit": 3072,
    "core_capture_data_periodic_upload": False,
    "core_capture_data_periodic_upload_period_seconds": 8,
    "provider_provider": "Aws",
    "provider_provider_path": "/libprovider.so",
    "provider_aws_ca_cert_file": "/ca.pem",
    "provider_aws_cert_file": "/cert.pem",
    "provider_aws_cert_pk_file": "/key.pem",
    "provider_aws_iot_cred_endpoint": "https://c.credentials.iot.us-west-2.amazonaws.com/role-aliases/edge/credentials",
    "provider_s3_bucket_name": "sagemaker-north",
    "log_verbose": True,
    "telemetry_libsystemd_path": "/libsystemd.so",
    "db_module_path": "/db.so",
    "local_data_root_path": "/data",
    "deployment_lib_path": "/deploy.so",
    "model_deployment_poll_interval": 1440,
    "dlr_backend_options": {"x": 1},
}
"""Every key that is known of."""


def read(**keys: Any) -> Settings:
    return of_json(json.dumps({f"sagemaker_edge_{key}": value for key, value in keys.items()}).encode(), "c.json")


def test_every_known_key_is_taken() -> None:
    found = read(**CLOUD)
    assert found.options == EdgeManagerOptions(
        device="box-7", fleet="north",
        capture=CaptureOptions(
            destination="cloud", folder="/captures", bucket="sagemaker-north", prefix="pre", buffer_size=30,
            batch_size=10, push_period_s=4, embed_limit=3072, periodic_upload=False, upload_period_s=8,
        ),
    )  # fmt: skip
    assert (found.thing, found.data_root, found.verbose) == ("thing-7", "/data", True)
    assert (found.aws.region, found.aws.role_alias) == ("us-west-2", "edge")
    assert found.aws.credentials_endpoint == "c.credentials.iot.us-west-2.amazonaws.com"
    assert (found.aws.ca_file, found.aws.cert_file, found.aws.key_file) == ("/ca.pem", "/cert.pem", "/key.pem")


def test_numbers_and_truths_may_be_texts() -> None:
    as_texts = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in CLOUD.items()
        if isinstance(value, int)
    }
    assert read(**{**CLOUD, **as_texts}) == read(**CLOUD)


def test_an_empty_text_is_what_nobody_says_and_unknown_keys_are_ignored() -> None:
    assert read(**dict.fromkeys(CLOUD, "")) == read()
    assert read(core_something_new=5, other={"a": 1}) == read()
    assert of_json(b'{"unrelated": 1}', "c.json") == read()
    assert read().options.capture == CaptureOptions()


def test_an_older_agents_device_uuid_is_its_name() -> None:
    assert read(core_device_uuid="old").options.device == "old"
    assert read(core_device_uuid="old", core_device_name="new").options.device == "new"


def test_the_go_installers_numbers_are_taken() -> None:
    capture = read(
        core_capture_data_batch_size=1, core_capture_data_buffer_size=2, core_capture_data_push_period_seconds=5
    ).options.capture
    assert (capture.batch_size, capture.buffer_size, capture.push_period_s) == (1, 2, 5.0)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"core_capture_data_base64_embed_limit": 3073}, "embed_limit"),
        ({"core_capture_data_buffer_size": "many"}, "buffer_size"),
        ({"core_capture_data_buffer_size": 0}, "buffer_size"),
        ({"core_capture_data_destination": "Tape"}, "destination"),
        ({"core_capture_data_periodic_upload": "perhaps"}, "periodic_upload"),
        ({"core_device_name": "x" * 64}, "device_name"),
        ({"core_device_fleet_name": "x" * 1024}, "fleet"),
        ({"core_iot_thing_name": 5}, "thing_name"),
        ({"provider_aws_iot_cred_endpoint": "https://host"}, "role alias"),
        ({"core_capture_data_destination": "Cloud", "provider_provider": "Custom"}, "Custom"),
        ({"core_capture_data_destination": "Cloud", "provider_provider": "None"}, "None"),
        ({"provider_s3_bucket_name": "a/b"}, "bucket"),
    ],
)
def test_what_is_wrong_is_named_by_its_own_key(keys: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(**keys)
    assert what in f"{refused.value} {refused.value.path}"


@pytest.mark.parametrize("text", [b"", b"[]", b"no json", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError, match=r"c\.json"):
        of_json(text, "c.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=2)
)


@given(st.dictionaries(st.sampled_from([*CLOUD]), JSON))
def test_whatever_a_file_says_is_taken_or_refused_as_a_configuration(keys: dict[str, Any]) -> None:
    with suppress(ConfigError):
        read(**keys)


def test_each_version_of_the_components_recipe_has_parameters_that_are_taken() -> None:
    name = "aws.greengrass.SageMakerEdgeManager"
    for version in versions(name):
        found = of_component(recipe(name, version).configuration)
        assert found.options.socket == "/tmp/aws.greengrass.SageMakerEdgeManager.sock"
        assert found.options.capture == CaptureOptions(destination="cloud", prefix="sme-capture")


def test_a_components_parameters_are_taken() -> None:
    found = of_component(
        {
            "DeviceFleetName": "north", "BucketName": "sagemaker-north", "CaptureDataDestination": "Disk",
            "CaptureDataDiskPath": "/captures", "CaptureDataBatchSize": "1", "CaptureDataBufferSize": 64,
            "FolderPrefix": "", "DbEnable": "false", "DLRBackendOptions": "X=1", "UnixSocketName": "/tmp/x.sock",
            "SagemakerEdgeLogVerbose": "true", "CaptureDataPeriodicUpload": "true",
        }
    )  # fmt: skip
    assert found.options == EdgeManagerOptions(
        fleet="north", socket="/tmp/x.sock",
        capture=CaptureOptions(
            folder="/captures", batch_size=1, buffer_size=64, bucket="sagemaker-north", periodic_upload=True
        ),
    )  # fmt: skip
    assert found.verbose
