"""What a person wrote wrongly is refused with its place, what was expected, and a guess."""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import models
from agent.config.load import parse
from agent.config.strict import build, convert, convert_all, nearest
from agent.errors import ConfigError
from agent.inference.runtime import inputspec, verdict


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    port: int = 1
    names: tuple[str, ...] = ()


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    plain: Inner = msgspec.field(default_factory=Inner)
    table: dict[str, Inner] = {}
    maybe: Inner | None = None
    rows: list[Inner] = []
    deep: dict[str, dict[str, Inner]] = {}


@pytest.mark.parametrize(
    ("parsed", "message", "hint"),
    [
        ({"plian": {}}, "unknown key plian in f.toml", "did you mean plain?"),
        ({"zzz": {}}, "unknown key zzz in f.toml", "known here: plain, table, maybe, rows, deep"),
        ({"plain": {"prot": 1}}, "unknown key plain.prot in f.toml", "did you mean port?"),
        ({"table": {"a": {}, "b": {"prot": 1}}}, "unknown key table.b.prot in f.toml", "did you mean port?"),
        ({"maybe": {"prot": 1}}, "unknown key maybe.prot in f.toml", "did you mean port?"),
        ({"rows": [{}, {"prot": 1}]}, "unknown key rows[1].prot in f.toml", "did you mean port?"),
        ({"deep": {"a": {"b": {}, "c": {"prot": 1}}}}, "unknown key deep.a.c.prot in f.toml", "did you mean port?"),
        ({"plain": {"port": "x"}}, "plain.port in f.toml: expected `int`, got `str`", None),
        ({"table": {"a": {"port": 1}, "b": {"port": "x"}}}, "table.b.port in f.toml: expected `int`, got `str`", None),
        ({"table": {"a": {"names": ["x", 3]}}}, "table.a.names[1] in f.toml: expected `str`, got `int`", None),
        ([], "f.toml: expected `object`, got `array`", None),
    ],
)
def test_what_is_wrong_is_told_with_its_place_and_a_guess(parsed, message, hint) -> None:
    with pytest.raises(ConfigError) as refused:
        convert(Outer, parsed, "f.toml")
    assert (refused.value.message, refused.value.hint) == (message, hint)


class Bounded(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern="^[a-z]+$", description="a word")] = "a"
    table: dict[Annotated[str, msgspec.Meta(pattern="^[A-Z]+$", description="a WORD")], int] = {}
    needed: dict[str, Needing] = {}


class Needing(msgspec.Struct, forbid_unknown_fields=True):
    port: int
    rows: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("parsed", "message", "path"),
    [
        ({"name": "7"}, "name in f.toml: expected a word", "name"),
        ({"table": {"A": 1, "b": 2}}, "table in f.toml: expected a WORD as key", "table"),
    ],
)
def test_a_text_that_breaks_its_pattern_is_refused_in_words(parsed, message, path) -> None:
    with pytest.raises(ConfigError) as refused:
        convert(Bounded, parsed, "f.toml")
    assert (refused.value.message, refused.value.path) == (message, path)


def test_all_that_is_wrong_is_named_and_the_rest_is_kept() -> None:
    parsed = {
        "name": "7",
        "nmae": "a",
        "needed": {
            "good": {"port": 1},
            "bare": {},
            "typed": {"port": "x"},
            "rows": {"port": 1, "rows": [1, "x", "y"]},
        },
    }
    value, errors = convert_all(Bounded, parsed, "f.toml")
    assert {error.path for error in errors} == {
        "name", "nmae", "needed.bare", "needed.typed.port", "needed.rows.rows[1]",
    }  # fmt: skip
    assert value == Bounded(needed={"good": Needing(1), "rows": Needing(1)})


@pytest.mark.parametrize("parsed", [[], 7, None])
def test_where_nothing_can_be_made_there_is_an_error_and_no_value(parsed) -> None:
    value, errors = convert_all(Bounded, parsed, "f.toml")
    assert (value, [error.path for error in errors]) == (None, [""])


TREES = st.recursive(
    st.none() | st.integers(-2, 2) | st.sampled_from(["a", "7", "A"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "table", "needed", "port", "rows", "plain", "x.y", "[...]"]), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["name", "table", "needed", "nmae"]), TREES))
def test_reading_all_refuses_what_reading_refuses_and_ends(parsed) -> None:
    value, errors = convert_all(Bounded, parsed, "f.toml")
    if not errors:
        assert convert(Bounded, parsed, "f.toml") == value
        return
    with pytest.raises(ConfigError) as refused:
        convert(Bounded, parsed, "f.toml")
    assert (errors[0].path, errors[0].message) == (refused.value.path, refused.value.message)


def test_what_is_right_becomes_a_value() -> None:
    assert build(Outer, b"[table.a]\nport = 7", "f.toml").table == {"a": Inner(7)}


@pytest.mark.parametrize("text", [b"port = ", b"\xff"])
def test_what_is_no_toml_is_refused_by_name(text) -> None:
    with pytest.raises(ConfigError, match=r"f\.toml is not TOML"):
        build(Outer, text, "f.toml")


def test_only_a_near_word_is_guessed() -> None:
    assert nearest("clasifier", ["classifier", "detector"]) == "did you mean classifier?"
    assert nearest("x", ["classifier", "detector"]) is None


CONFIGURED = {
    "transports": {"local": {"host": "h"}},
    "models": {"eyes": {"source": "classifier"}},
    "streams": {"line": {"model": "eyes", "input": {"topic": "a"}}},
}


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("models.eyes.threshold", "did you mean options.threshold?"),
        ("models.eyes.treshold", "did you mean options.threshold?"),
        ("models.eyes.thread", "did you mean threads?"),
        ("models.eyes.width", "did you mean input.width?"),
        ("streams.line.topic", "did you mean input.topic or outputs[0].topic or snapshots.topic?"),
        ("streams.line.labels", "did you mean filter.labels?"),
        ("streams.line.workers", "did you mean models.NAME.workers?"),
        ("streams.line.source", "did you mean input.camera.source?"),
        ("streams.line.input.model", "did you mean streams.line.model?"),
        ("streams.line.threshold", "did you mean models.NAME.options.threshold?"),
        ("run_as", "did you mean deployments.run_as?"),
        ("transport", "did you mean transports?"),
    ],
)
def test_a_key_that_stands_in_the_wrong_table_leads_to_where_it_belongs(path, hint) -> None:
    values = json.loads(json.dumps(CONFIGURED))
    *tables, key = path.split(".")
    reduce(lambda table, step: table[step], tables, values)[key] = 1
    with pytest.raises(ConfigError) as refused:
        parse(values, "f.toml", Path(), {})
    assert (refused.value.path, refused.value.hint) == (path, hint)


NESTED = {"anchors", "outputs"}
"""Tables and lists that are asked for in another way."""


def test_the_keys_that_guesses_know_are_those_that_the_worker_reads() -> None:
    runtime = Path(models.__file__).parents[1] / "inference" / "runtime"
    asked = re.compile(r"\b(?:read|options)\.(?!table\b)\w+\(\s*\"(\w+)\"")
    tasks = {key for path in (runtime / "tasks").rglob("*.py") for key in asked.findall(path.read_text())}
    assert [*models.TASK_KEYS] == sorted(tasks | NESTED)
    assert set(inputspec.KEYS) == set(models.INPUT_KEYS)
    assert set(verdict.KEYS) - set(models.TASK_KEYS) == set(models.ANOMALY_KEYS)
