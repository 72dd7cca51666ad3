"""What is said of a model in several places comes to one: the nearest to the owner goes before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.config.models import STEPS, ModelOptions, ModelSettings, Then

TEXTS = st.sampled_from(["", "a", "b.py:C"])
TABLES = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3), max_size=3)
VALUES = {
    dict: TABLES,
    type(None): st.sampled_from([None, False, True]),
    tuple: st.sampled_from([(), (Then(model="a"),)]),
    str: TEXTS,
}
FIELDS = {key: VALUES[type(default)] for key, default in ModelSettings().settings().items()}
SETTINGS = st.builds(ModelSettings, **FIELDS)


@given(SETTINGS)
def test_nothing_over_settings_and_settings_over_nothing_are_the_settings(settings) -> None:
    assert ModelSettings().over(settings) == settings
    assert settings.over(ModelSettings()) == settings


@given(SETTINGS, SETTINGS)
def test_what_is_said_goes_before_and_the_rest_stays(mine, theirs) -> None:
    merged = mine.over(theirs).settings()
    if mine.task and theirs.task and mine.task != theirs.task:
        theirs = replace(theirs, options={}, postprocess="", postprocess_options={}, then=())
    for key, value in mine.settings().items():
        if isinstance(value, dict):
            assert value.items() <= merged[key].items()
        else:
            assert merged[key] == (getattr(theirs, key) if value in ("", None, ()) else value)
    for step in STEPS:
        own = getattr(mine, f"{step}_options")
        kept = {} if getattr(mine, step) else getattr(theirs, f"{step}_options")
        assert merged[f"{step}_options"] == {**kept, **own}


def test_what_is_said_to_one_task_is_nothing_to_another() -> None:
    manifest = ModelSettings(task="object-detection", options={"decoder": "yolo"}, postprocess="a.py:B", labels="l")
    assert ModelSettings(task="tensors").over(manifest) == ModelSettings(task="tensors", labels="l")
    assert ModelSettings(task="object-detection").over(manifest) == manifest
    assert ModelSettings(task="x").over(replace(manifest, task="auto")) == replace(manifest, task="x")


@given(SETTINGS)
def test_how_a_model_is_run_is_no_matter_of_its_settings(settings) -> None:
    options = ModelOptions(source="m", workers=3, usual_options={"x": 1})
    merged = options.over(settings)
    assert (merged.source, merged.workers, merged.usual_options) == ("m", 3, {"x": 1})
    assert merged.settings() == settings.settings()
