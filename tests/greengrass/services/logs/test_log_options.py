"""The configuration of the log manager, as AWS documents it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import InvalidInputError
from agent.greengrass.services.logs.options import LogOptions, parse

LOGS = Path("/data/logs")


def of(table, name="a"):
    (source,) = parse({"logsUploaderConfiguration": {"componentLogsConfigurationMap": {name: table}}}, LOGS).sources
    return source


def test_without_configuration_nothing_is_uploaded_and_looked_after_every_five_minutes():
    assert parse({}, LOGS) == LogOptions((), 300.0)


def test_a_component_has_what_the_documentation_says_by_default():
    source = of({}, "com.example.A")
    assert (source.folder, source.level, source.disk_bytes, source.delete_uploaded) == (LOGS, "INFO", None, False)
    names = ("com.example.A.log", "com.example.A.log.3", "com.example.A_2026_11_29_10_0.log", "com.example.AB.log")
    assert [bool(source.files.search(name)) for name in names] == [True, True, True, False]


@pytest.mark.parametrize(
    ("limit", "unit", "size"), [("10", None, 10 << 10), (1.5, "mb", 3 << 19), ("1", "GB", 1 << 30)]
)
def test_the_disk_space_is_counted_in_its_unit(limit, unit, size):
    assert of({"diskSpaceLimit": limit, "diskSpaceLimitUnit": unit}).disk_bytes == size


def test_the_list_of_older_versions_is_read_too_and_the_map_goes_before_it():
    older = [{"componentName": "a", "minimumLogLevel": "ERROR"}, {"componentName": "b", "minimumLogLevel": "WARN"}]
    table = {"componentLogsConfiguration": older, "componentLogsConfigurationMap": {"a": {"minimumLogLevel": "DEBUG"}}}
    sources = parse({"logsUploaderConfiguration": table, "periodicUploadIntervalSec": "60"}, LOGS)
    assert {source.name: source.level for source in sources.sources} == {"a": "DEBUG", "b": "WARN"}
    assert sources.interval_s == 60


@pytest.mark.parametrize(
    "table",
    [
        {"minimumLogLevel": "LOUD"}, {"diskSpaceLimit": "-1"}, {"diskSpaceLimitUnit": "TB"}, {"logFileRegex": "("},
        {"deleteLogFileAfterCloudUpload": "perhaps"}, {"multiLineStartPattern": 1}, "text",
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_key(table):
    with pytest.raises(InvalidInputError) as refused:
        of(table)
    assert refused.value.code == "COMPONENT_CONFIGURATION_NOT_VALID"
    key = next(iter(table)) if isinstance(table, dict) else "a"
    assert key in refused.value.message
