"""Recipes like those of Greengrass's public ML components resolve here, with what the agent itself stands for."""

from __future__ import annotations

from pathlib import Path

from agent.greengrass.deployments.repository import ComponentRepository
from agent.greengrass.deployments.resolver import resolve
from agent.greengrass.recipes import lifecycle, platform, reader
from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Requirement, Version

DATA = Path(__file__).parents[1] / "recipes" / "data"
FAMILY = ("dlr-image-classification.json", "dlr-model-store.json", "variant-dlr.yaml")
DEVICE = platform.attributes("Linux", "x86_64", linux=True)


class Shelf:
    """The recipes of the folder."""

    def __init__(self) -> None:
        self._recipes = {each.name: each for each, _ in (reader.read(DATA / name) for name in FAMILY)}

    def versions(self, name: str) -> list[Version]:
        return [self._recipes[name].version] if name in self._recipes else []

    def recipe(self, name: str, version: Version) -> Recipe:
        assert self._recipes[name].version == version
        return self._recipes[name]


def test_an_inference_component_resolves_to_its_runtime_its_model_store_and_the_nucleus() -> None:
    wanted = {"aws.greengrass.DLRImageClassification": {"thinggroup/lab": Requirement.parse("2.1.7")}}
    found = resolve(wanted, ComponentRepository(Shelf()), {}, DEVICE)
    assert {name: str(recipe.version) for name, recipe in found.components.items()} == {
        "aws.greengrass.DLRImageClassification": "2.1.7",
        "variant.DLR.ImageClassification.ModelStore": "2.1.9",
        "variant.DLR": "1.6.12",
        "aws.greengrass.Nucleus": "2.12.6",
    }
    runtime = found.components["variant.DLR"]
    assert found.order[-1] == "aws.greengrass.DLRImageClassification"
    assert lifecycle.parse(lifecycle.select(runtime, platform.choose(runtime, DEVICE))).steps
