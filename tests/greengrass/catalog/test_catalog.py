"""The recipes: what there is, what it says, and that documents written for Greengrass resolve to it."""

from __future__ import annotations

import json

import pytest

from agent.errors import InvalidInputError
from agent.greengrass import catalog
from agent.greengrass.catalog.entries import ENTRIES
from agent.greengrass.catalog.families import FAMILIES, PICTURES
from agent.greengrass.catalog.requirements import requirements
from agent.greengrass.deployments.repository import BUILTINS
from agent.greengrass.deployments.resolver import resolve
from agent.greengrass.recipes import configuration, lint, platform, reader, writer
from agent.greengrass.recipes.recipe import Artifact, ComponentType, Manifest, Recipe, Unarchive
from agent.greengrass.recipes.versions import Requirement, Version
from agent.inference.manifest import SAMPLES, sample_names

TFLITE_IC = "aws.greengrass.TensorFlowLiteImageClassification"
DLR_OD = "aws.greengrass.DLRObjectDetection"
DEVICES = {each: {"os": "linux", "architecture": each} for each in ("amd64", "aarch64", "arm")}
DOCUMENTED = {
    # as the changelogs of AWS's documentation list them
    "aws.greengrass.TensorFlowLiteImageClassification": ("2.1.0", "2.1.8"),
    "aws.greengrass.TensorFlowLiteObjectDetection": ("2.1.0", "2.1.8"),
    "aws.greengrass.TensorFlowliteObjectDetection": ("2.1.0", "2.1.8"),
    "aws.greengrass.DLRImageClassification": ("2.0.4", "2.1.1", "2.1.10"),
    "aws.greengrass.DLRObjectDetection": ("2.0.4", "2.1.1", "2.1.10"),
    "variant.TensorFlowLite": ("2.5.0", "2.5.11"),
    "variant.DLR": ("1.3.2", "1.6.1", "1.6.12"),
    "variant.TensorFlowLite.ImageClassification.ModelStore": ("2.1.0", "2.1.8"),
    "variant.TensorFlowLite.ObjectDetection.ModelStore": ("2.1.0", "2.1.8"),
    "variant.DLR.ImageClassification.ModelStore": ("2.1.1", "2.1.9"),
    "variant.DLR.ObjectDetection.ModelStore": ("2.1.1", "2.1.9"),
    "variant.ImageClassification.ModelStore": ("2.0.4",),
    "variant.ObjectDetection.ModelStore": ("2.0.4",),
    "aws.greengrass.SageMakerEdgeManager": ("1.0.0", "1.0.3", "1.1.0", "1.2.0", "1.3.0"),
    "aws.iot.lookoutvision.EdgeAgent": ("0.1.36", "0.1.37", "1.0.0", "1.1.1", "1.2.0"),
    "aws.greengrass.ShadowManager": ("2.0.0", "2.1.1", "2.2.3", "2.3.4"),
    "aws.greengrass.SecretManager": ("2.0.8", "2.1.0", "2.1.7", "2.2.0"),
    "aws.greengrass.StreamManager": ("2.0.8", "2.1.0", "2.1.13", "2.2.1"),
    "aws.greengrass.DockerApplicationManager": ("2.0.0", "2.0.5", "2.0.11"),
    "aws.greengrass.LogManager": ("2.0.1", "2.1.3", "2.2.1", "2.3.7"),
    "verge.runtime.litert": ("1.0.0",),
    "verge.runtime.onnx": ("1.0.0",),
    "verge.runtime.opencv": ("1.0.0",),
    "verge.runtime.dlr": ("1.0.0",),
}


def parsed(text: str) -> Version:
    return Version.parse(text)


def newest(name: str) -> Recipe:
    return catalog.recipe(name, catalog.versions(name)[-1])


class Shelf:
    """The agent's parts and the catalog, with whatever a device's owner published."""

    def __init__(self, *own: Recipe) -> None:
        self._own = {(each.name, each.version): each for each in own}

    def versions(self, name):
        if name in BUILTINS:
            return [BUILTINS[name].version]
        return [version for known, version in self._own if known == name] or catalog.versions(name)

    def recipe(self, name, version):
        return BUILTINS.get(name) or self._own.get((name, version)) or catalog.recipe(name, version)


def resolved(wanted: dict[str, str], *own: Recipe, device: str = "amd64"):
    roots = {name: {"thinggroup/lab": Requirement.parse(text)} for name, text in wanted.items()}
    return resolve(roots, Shelf(*own), {}, DEVICES[device])


def test_the_catalog_has_every_component_that_documents_name_and_nothing_else() -> None:
    assert set(catalog.names()) == set(DOCUMENTED)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_version_is_offered_and_listed_in_order(name) -> None:
    offered = catalog.versions(name)
    assert set(map(parsed, DOCUMENTED[name])) <= set(offered)
    assert list(offered) == sorted(set(offered))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_recipe_is_without_findings_and_survives_being_written_and_read(name) -> None:
    for version in catalog.versions(name):
        made = catalog.recipe(name, version)
        assert (made.name, made.version) == (name, version)
        assert lint.check(made) == ()
        assert reader.parse_with_warnings(writer.dump(made), name) == (made, ())
        assert catalog.is_ours(made)


def test_a_recipe_is_made_once() -> None:
    assert newest(TFLITE_IC) is newest(TFLITE_IC)


@pytest.mark.parametrize(("name", "version"), [("variant.DLR", "1.4.0"), ("variant.Nothing", "1.0.0")])
def test_what_the_catalog_does_not_have_is_refused_with_what_it_has(name, version) -> None:
    with pytest.raises(InvalidInputError) as caught:
        catalog.recipe(name, parsed(version))
    assert caught.value.code == "NO_AVAILABLE_COMPONENT_VERSION"
    assert "variant.DLR" in caught.value.hint or "1.3.0 to 1.6." in caught.value.hint


def test_what_is_not_in_the_catalog_has_no_versions() -> None:
    assert tuple(catalog.versions("com.example.Other")) == ()


def test_the_default_configuration_is_aws_s_key_for_key_and_text_throughout() -> None:
    told = dict(newest(DLR_OD).configuration)
    policy = told.pop("accessControl")["aws.greengrass.ipc.mqttproxy"][f"{DLR_OD}:mqttproxy:1"]
    assert (policy["operations"], policy["resources"]) == (
        ["aws.greengrass#PublishToIoTCore"],
        ["ml/dlr/object-detection"],
    )
    assert told == {
        "PublishResultsOnTopic": "ml/dlr/object-detection",
        "ImageName": "objects.jpg",
        "InferenceInterval": "3600",
        "ModelResourceKey": {
            "armv7l": "DLR-yolo3-armv7l-cpu-ObjectDetection",
            "aarch64": "DLR-yolo3-aarch64-cpu-ObjectDetection",
            "x86_64": "DLR-yolo3-x86_64-cpu-ObjectDetection",
            "windows": "DLR-yolo3-win-cpu-ObjectDetection",
        },
    }
    assert newest(TFLITE_IC).configuration["ModelResourceKey"] == {"model": "TensorFlowLite-Mobilenet"}
    assert newest("variant.DLR").configuration == {
        "MLRootPath": "../variant.DLR/greengrass_ml",
        "UseInstaller": "true",
    }


@pytest.mark.parametrize("name", DOCUMENTED)
def test_no_default_is_anything_but_text(name) -> None:
    def leaves(value):
        if isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                yield from leaves(inner)
        else:
            yield value

    assert all(isinstance(leaf, str) for leaf in leaves(json.loads(json.dumps(newest(name).configuration))))


DOCUMENTS = [
    # a deployment document's components → what they come to
    (
        {TFLITE_IC: "2.1.4"},
        {
            TFLITE_IC: "2.1.4",
            "variant.TensorFlowLite.ImageClassification.ModelStore": "2.1.20",
            "variant.TensorFlowLite": "2.5.20",
            "aws.greengrass.Nucleus": "2.12.6",
        },
    ),
    (
        {"aws.greengrass.TensorFlowliteObjectDetection": "2.1.8", "aws.greengrass.Nucleus": "2.12.6"},
        {
            "aws.greengrass.TensorFlowliteObjectDetection": "2.1.8",
            "variant.TensorFlowLite.ObjectDetection.ModelStore": "2.1.20",
            "variant.TensorFlowLite": "2.5.20",
            "aws.greengrass.Nucleus": "2.12.6",
        },
    ),
    (
        {DLR_OD: "2.1.6", "variant.DLR": "1.6.6", "variant.DLR.ObjectDetection.ModelStore": "2.1.5"},
        {
            DLR_OD: "2.1.6",
            "variant.DLR": "1.6.6",
            "variant.DLR.ObjectDetection.ModelStore": "2.1.5",
            "aws.greengrass.Nucleus": "2.12.6",
        },
    ),
    (
        {"aws.greengrass.DLRImageClassification": "2.0.4"},
        {
            "aws.greengrass.DLRImageClassification": "2.0.4",
            "variant.ImageClassification.ModelStore": "2.0.20",
            "variant.DLR": "1.3.20",
            "aws.greengrass.Nucleus": "2.12.6",
        },
    ),
    (
        {"aws.greengrass.SageMakerEdgeManager": "1.1.0"},
        {
            "aws.greengrass.SageMakerEdgeManager": "1.1.0",
            "aws.greengrass.TokenExchangeService": "2.12.6",
            "aws.greengrass.Nucleus": "2.12.6",
        },
    ),
    ({"aws.iot.lookoutvision.EdgeAgent": "1.1.1"}, {"aws.iot.lookoutvision.EdgeAgent": "1.1.1"}),
]


@pytest.mark.parametrize(("wanted", "expected"), DOCUMENTS, ids=[next(iter(each)) for each, _ in DOCUMENTS])
def test_a_document_written_for_greengrass_resolves(wanted, expected) -> None:
    found = resolved(wanted)
    assert {name: str(each.version) for name, each in found.components.items()} == expected


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_inference_component_resolves_on_every_device_in_every_version(name, device) -> None:
    for version in (catalog.versions(name)[0], catalog.versions(name)[-1]):
        found = resolved({name: str(version)}, device=device)
        kinds = [each.type for each in found.components.values()]
        assert sorted(kinds) == sorted(
            [ComponentType.INFERENCE, ComponentType.MODEL, ComponentType.RUNTIME, ComponentType.NUCLEUS]
        )


def own_store(version: str, **fields) -> Recipe:
    archive = Artifact("s3://bucket/mine.zip", Unarchive.ZIP)
    name = "variant.TensorFlowLite.ImageClassification.ModelStore"
    return Recipe(name, parsed(version), manifests=(Manifest(artifacts=(archive,)),), **fields)


def test_an_owners_store_of_the_same_name_is_not_taken_for_the_catalogs() -> None:
    mine = own_store("2.1.1")
    assert not catalog.is_ours(mine)
    assert resolved({TFLITE_IC: "2.1.4"}, mine).components[mine.name] is mine
    assert not catalog.is_ours(own_store("2.1.1", publisher="Verge", type=ComponentType.MODEL))
    assert not catalog.is_ours(own_store("9.9.9", publisher="Verge", type=ComponentType.MODEL))


def test_a_recipe_that_an_older_agent_wrote_down_is_still_the_catalogs() -> None:
    told = json.loads(writer.dump(newest(TFLITE_IC))) | {"ComponentDescription": "Other words"}
    assert catalog.is_ours(reader.parse(json.dumps(told), "old.json"))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_stores_bring_a_sample_that_ships_and_runtimes_name_a_family(name) -> None:
    made = newest(name)
    block = catalog.completed(made, made.configuration).get("Verge")
    match made.type:
        case ComponentType.MODEL:
            assert set(block) == {"Sample"}
            assert block["Sample"] in sample_names()
        case ComponentType.RUNTIME:
            assert block["Runtime"] in {"litert", "onnx", "opencv", "dlr"}
        case _:
            assert block is None


def test_a_family_and_its_store_agree_on_the_sample() -> None:
    for family in FAMILIES.values():
        store = newest(family.store)
        assert catalog.completed(store, {})["Verge"] == {"Sample": family.sample}


def test_the_owners_block_goes_before_the_catalogs() -> None:
    runtime = newest("variant.TensorFlowLite")
    told = catalog.completed(runtime, {"verge": {"Packages": ["numpy<2"]}})
    assert told == {"verge": {"Packages": ["numpy<2"], "Runtime": "litert"}}
    assert catalog.completed(runtime, {"Verge": {"runtime": "onnx"}}) == {"Verge": {"runtime": "onnx"}}
    assert catalog.completed(own_store("2.1.1"), {"a": 1}) == {"a": 1}


def test_what_a_store_of_the_catalog_leaves_behind_does_not_reach_an_owners_store_of_that_name() -> None:
    ours = newest("variant.TensorFlowLite.ImageClassification.ModelStore")
    stored = configuration.update(None, (), ours.configuration, None, 1)
    mine = own_store("2.1.1")
    inherited = configuration.update(stored, (), mine.configuration, None, 2).to_plain()
    assert catalog.completed(mine, inherited) == {}


def test_every_picture_that_stands_for_one_of_aws_s_ships() -> None:
    images = {each.name for each in (SAMPLES.parent / "images").iterdir()}
    assert set(PICTURES.values()) <= images
    assert {family.image for family in FAMILIES.values()} <= set(PICTURES)


def test_servers_are_deployable_on_the_machines_that_aws_has_them_for() -> None:
    for name in ("aws.greengrass.SageMakerEdgeManager", "aws.iot.lookoutvision.EdgeAgent"):
        made = newest(name)
        assert made.type is ComponentType.SERVER
        assert platform.choose(made, DEVICES["amd64"])
        assert requirements(name).architectures == ("aarch64", "amd64")


def test_nothing_in_the_catalog_runs_or_is_downloaded() -> None:
    for name in ENTRIES:
        made = newest(name)
        assert not made.lifecycle
        assert not any(each.artifacts or each.lifecycle for each in made.manifests)
