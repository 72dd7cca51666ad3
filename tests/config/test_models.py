"""What is said of a model in several places comes to one: the nearest to the owner goes before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.config.models import STEPS, ModelOptions, ModelSettings

TEXTS = st.sampled_from(["", "a", "b.py:C"])
TABLES = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3), max_size=3)
FIELDS = {
    key: TABLES if isinstance(default, dict) else st.sampled_from([None, False, True]) if default is None else TEXTS
    for key, default in ModelSettings().settings().items()
}
SETTINGS = st.builds(ModelSettings, **FIELDS)


@given(SETTINGS)
def test_nothing_over_settings_and_settings_over_nothing_are_the_settings(settings) -> None:
    assert ModelSettings().over(settings) == settings
    assert settings.over(ModelSettings()) == settings


@given(SETTINGS, SETTINGS)
def test_what_is_said_goes_before_and_the_rest_stays(mine, theirs) -> None:
    merged = mine.over(theirs).settings()
    for key, value in mine.settings().items():
        if isinstance(value, dict):
            assert value.items() <= merged[key].items()
        else:
            assert merged[key] == (getattr(theirs, key) if value in ("", None) else value)
    for step in STEPS:
        own = getattr(mine, f"{step}_options")
        kept = {} if getattr(mine, step) else getattr(theirs, f"{step}_options")
        assert merged[f"{step}_options"] == {**kept, **own}


@given(SETTINGS)
def test_how_a_model_is_run_is_no_matter_of_its_settings(settings) -> None:
    options = ModelOptions(source="m", workers=3, usual_options={"x": 1})
    merged = options.over(settings)
    assert (merged.source, merged.workers, merged.usual_options) == ("m", 3, {"x": 1})
    assert merged.settings() == settings.settings()
