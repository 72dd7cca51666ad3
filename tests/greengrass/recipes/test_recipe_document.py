from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.recipes.document import MAX_BYTES, Written, load, plain
from agent.greengrass.recipes.errors import RecipeError

SCALARS = [
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("7", 7),
    ("-7", -7),
    ("0x1f", 31),
    ("1.5", 1.5),
    (".5", 0.5),
    ("1e3", 1000.0),
    ("on", "on"),
    ("yes", "yes"),
    ("No", "No"),
    ("2020-01-25", "2020-01-25"),
    ("10:30", "10:30"),
    ("1.0.0", "1.0.0"),
    ("0755", "0755"),
    ("1_000", "1_000"),
    (".inf", ".inf"),
    (".nan", ".nan"),
    ("'5'", "5"),
    ('"true"', "true"),
    ("!!str 5", "5"),
    ("! 5", "5"),
    ("!!int '5'", 5),
    ("text", "text"),
    ("<<", "<<"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_a_yaml_scalar_is_typed_as_greengrass_types_it(text, value):
    found = load(f"key: {text}\n", "r").value["key"]
    assert plain(found) == value
    assert type(plain(found)) is type(value)


def test_keys_are_texts_as_they_are_written():
    assert load("on: 1\nyes: 2\n1.10: 3\nnull: 4\n2020-01-25: 5\n", "r").value == {
        "on": 1, "yes": 2, "1.10": 3, "null": 4, "2020-01-25": 5,
    }  # fmt: skip


@pytest.mark.parametrize("text", ['{"a": 1.10}', "a: 1.10"])
def test_a_fraction_remembers_its_spelling(text):
    found = load(text, "r").value["a"]
    assert isinstance(found, Written)
    assert (found, found.text) == (1.1, "1.10")


def test_json_may_hold_what_yaml_may_not():
    assert load('\ufeff{\t"a":\t"\\ud83d\\ude00\\/"}'.encode(), "r").value == {"a": "😀/"}


def test_a_flow_mapping_of_yaml_may_begin_like_json():
    assert load("{a: 1, b: [x, 2]}", "r").value == {"a": 1, "b": ["x", 2]}


def test_an_alias_stands_for_what_its_anchor_names():
    assert load("a: &x {k: [1, &y two]}\nb: *x\nc: *y\n", "r").value == {
        "a": {"k": [1, "two"]}, "b": {"k": [1, "two"]}, "c": "two",
    }  # fmt: skip


@pytest.mark.parametrize("text", ['{"a": 1, "b": {"a": 2, "a": 3}}', "a: 1\nb:\n  a: 2\n  a: 3\n"])
def test_of_a_key_that_stands_twice_the_last_counts_and_it_is_told(text):
    document = load(text, "r")
    assert document.value == {"a": 1, "b": {"a": 3}}
    assert document.repeated == ("a",)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
REFUSED = [
    ("a: [", "not YAML"),
    ("a: b: c", "not YAML"),
    ("{", "not JSON"),
    ('{"a": 1', "not JSON"),
    ("\tx: 1", "not YAML"),
    (BOMB, "expands to more than"),
    ("a: &a [*a]", "no anchor"),
    ("a: *b", "no anchor|not YAML"),
    ("[" * 100_000, "nests deeper|not YAML"),
    ('{"a":' * 100_000, "nests deeper"),
    ('{"a":' * 80 + "1" + "}" * 80, "nests deeper"),
    ("a:\n" + "".join(" " * n + "- \n" for n in range(1, 90)), "nests deeper"),
    ("a: !!python/object/apply:os.system [ls]", "tag"),
    ("a: !Sub x", "tag"),
    ("a: !!set {x}", "tag"),
    ("a: !!binary aGk=", "tag"),
    ("[a, b]: c", "key has to be a text"),
    ("a: 1\n---\nb: 2\n", "second document"),
    ('{"a": NaN}', "NaN"),
    ('{"a": 1e999}', "range"),
    ('{"a": "\\ud800"}', "surrogate"),
    ('{"\\udfff": 1}', "surrogate"),
    ('{"a": ' + "9" * 5000 + "}", "cannot be used"),
    (b"\xff\xfe", "UTF-8"),
    ("a: \x01", "not YAML"),
    ("#" * (MAX_BYTES + 1), "bytes"),
]


@pytest.mark.parametrize(("text", "told"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_document_is_refused_by_name(text, told):
    with pytest.raises(RecipeError, match=told) as caught:
        load(text, "the-recipe.yaml")
    assert caught.value.code == "RECIPE_PARSE_ERROR"
    assert "the-recipe.yaml" in caught.value.message
    assert len(caught.value.message) < 400


def test_an_error_in_yaml_names_the_line():
    with pytest.raises(RecipeError, match="line 3"):
        load("a: 1\nb: 2\nc: !Sub 3\n", "r")


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=5), trees, max_size=4))
def test_law_json_reads_as_it_was_written(tree):
    assert plain(load(json.dumps(tree), "r").value) == tree


@settings(max_examples=100)
@given(st.one_of(st.text(max_size=60), st.binary(max_size=60), st.text("{}[]:,&*!-'\" \nax1.", max_size=40)))
def test_law_any_text_is_a_document_or_our_error(text):
    try:
        plain(load(text, "r").value)
    except RecipeError:
        return
