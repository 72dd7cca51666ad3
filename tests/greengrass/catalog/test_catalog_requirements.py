"""What components need, against devices that have it or not."""

from __future__ import annotations

import pytest

from agent.greengrass import catalog
from agent.greengrass.catalog.requirements import FACTS, check, requirements
from agent.greengrass.recipes.errors import Level

IC = "aws.greengrass.DLRImageClassification"
DEVICE = {
    "os": "linux",
    "architecture": "amd64",
    "libc": "glibc",
    "libc_version": "2.36",
    "disk_free": 4_000_000_000,
    "memory_total": 2_000_000_000,
}
LACKS = [
    # component, what is other than usual, the fact, the level, a part of the message
    (IC, {"disk_free": 499_000_000}, "disk_free", Level.WARNING, "499 MB of disk are free, 500 MB"),
    (IC, {"memory_total": 256_000_000}, "memory_total", Level.WARNING, "256 MB of memory"),
    (IC, {"libc_version": "2.26"}, "libc", Level.ERROR, "glibc 2.27 or later, this is glibc 2.26"),
    (IC, {"libc": "", "libc_version": ""}, "libc", Level.ERROR, "another C library"),
    (IC, {"libc": "musl", "libc_version": "1.2.4"}, "libc", Level.ERROR, "this is musl 1.2.4"),
    (IC, {"architecture": "riscv64"}, "architecture", Level.ERROR, "arm, aarch64, amd64, this is riscv64"),
    (IC, {"os": "darwin"}, "os", Level.ERROR, "this is darwin"),
    ("variant.DLR", {"disk_free": 0}, "disk_free", Level.WARNING, "0 MB of disk"),
    ("aws.greengrass.SageMakerEdgeManager", {"architecture": "arm"}, "architecture", Level.ERROR, "aarch64, amd64"),
    ("aws.iot.lookoutvision.EdgeAgent", {"architecture": "arm"}, "architecture", Level.ERROR, "aarch64, amd64"),
]


@pytest.mark.parametrize(("component", "lacks", "fact", "level", "message"), LACKS)
def test_what_a_device_lacks_is_said_with_what_it_has(component, lacks, fact, level, message) -> None:
    (finding,) = check(component, DEVICE | lacks)
    assert (finding.path, finding.level) == (fact, level)
    assert finding.message.startswith(f"{component}: ")
    assert message in finding.message
    assert finding.hint


@pytest.mark.parametrize("name", catalog.names())
def test_an_ordinary_device_lacks_nothing(name) -> None:
    assert set(FACTS) == set(DEVICE)
    assert check(name, DEVICE) == ()
    assert requirements(name) is not None


@pytest.mark.parametrize("name", catalog.names())
def test_what_is_not_known_of_a_device_is_not_checked(name) -> None:
    assert check(name, {}) == ()
    assert check(name, {"libc": "glibc", "libc_version": "2.27", "disk_free": 500_000_000}) == ()


@pytest.mark.parametrize("architecture", ["arm", "aarch64"])
@pytest.mark.parametrize("name", catalog.names())
def test_architectures_are_those_that_the_recipes_are_for(name, architecture) -> None:
    made = catalog.recipe(name, catalog.versions(name)[-1])
    offered = {each.platform.get("architecture") for each in made.manifests}
    refused = any(each.path == "architecture" for each in check(name, DEVICE | {"architecture": architecture}))
    assert refused is not bool(offered & {architecture, None})


def test_strangers_are_not_judged() -> None:
    assert check("com.example.Other", {"disk_free": 0}) == ()
    assert requirements("com.example.Other") is None
