"""The subset of YAML that label files are written in, held against a whole YAML reader."""

from __future__ import annotations

import contextlib
import time

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.inference.runtime import plainyaml

pytestmark = pytest.mark.arch

READ = [
    "names: [a, 'b c', \"d\\te\"]  # three\nnc: 3",
    "names:\n  0: person\n  1: 'it''s'\n  2: \"q\\\"\"\n",
    "names: {0: a, 1: b,\n  2: c d}\nx: y",
    "names:\n- a\n- b\nnc: 2",
    "- name: cat\n  id: 0\n- name: dog\n  id: 1",
    "- - a\n  - b\n- c",
    "a:\n  - b\n  -\n    c: d\n",
    "a: foo\n  bar\n  baz\nb: 'x\n  y'\nc: \"u\\\n  v w\n  z\"\n",
    "names: [ 'a', # first\n 'b' ]\n",
    "x: [a:b, c#d, {e: f}, []]\n",
    "%YAML 1.1\n--- # here\n- a\n...\n",
    "k: >-\n  folded\n  text\nz: 1",
    "a: {}\nb: []\n",
    "'quoted key': v\n\"k: 2\" : w",
    "a:b: c\n",
    "person\n",
    "a: [x y, z\n w]",
    "path: https://example.com/x#y # where\r\nnames:\r\n  0: cat\r\n",
    "PostProcess:\n  name: Topk\n  character_dict:\n  - '!'\n  - '\"'\n  - '#'\n  - ' '\n  - \\\n  - '-'\n  - 字\n",
    "no: yes\n1_000: 0x10\n",
]


@pytest.mark.parametrize("text", READ)
def test_what_label_files_are_written_in_is_read_as_a_whole_yaml_reader_does(text):
    assert plainyaml.parse(text) == yaml.load(text, yaml.BaseLoader)


def test_a_script_in_a_block_of_text_is_passed_over():
    text = "download: |\n  import os\n  names = {'a': [1\n\n  done: yes\nnames:\n  - cat\n"
    assert plainyaml.parse(text)["names"] == ["cat"]


def test_a_value_that_is_not_there_is_none():
    assert plainyaml.parse("a:\nb: ~\nc: [null, {d}]\n") == {"a": None, "b": None, "c": [None, {"d": None}]}


REFUSED = [
    ("an anchor", "a: &x 1", "line 1 has an anchor"),
    ("an alias", "a: 1\nb: *a", "line 2 has an anchor"),
    ("a tag", "a: !!python/object:os.system x", "line 1 has an anchor"),
    ("a key twice", "a: 1\na: 2", "line 2 has a key"),
    ("a complex key", "? a\n: b", "line 1"),
    ("a tab", "a:\n\t- b", "line 2 is indented by a tab"),
    ("a text without an end", "a: 'b\nc: d", "line 1 begins a quoted text"),
    ("brackets without an end", "a: [b,\nc", "line 1 has brackets"),
    ("brackets closed wrongly", "a: [b}", "line 1 has brackets"),
    ("something behind a text", "a: 'b' c", "line 1 goes on"),
    ("a line that belongs to nothing", "a: 1\n b: 2\nc", "line "),
    ("two documents", "a: 1\n---\nb: 2", "line 2"),
    ("too deep", "[" * 100, "nested too deeply"),
    ("too deep in dashes", "- " * 100 + "a", "nested too deeply"),
]


@pytest.mark.parametrize(("text", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_beyond_it_is_refused_with_the_line(text, told):
    with pytest.raises(ValueError, match=told):
        plainyaml.parse(text)


LETTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029\ufeff")
NAMES = st.text(LETTERS, max_size=40)
# A key that is long or empty is written as a complex one.
KEYS = st.text(LETTERS, min_size=1, max_size=20)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(KEYS, st.one_of(NAMES, st.lists(NAMES), st.dictionaries(KEYS, NAMES)), min_size=1, max_size=6),
    st.sampled_from([None, True, False]),
    st.sampled_from(["'", '"', None]),
)
def test_what_a_yaml_library_writes_is_read_back(value, flow, style):
    text = yaml.safe_dump(value, default_flow_style=flow, default_style=style, allow_unicode=True, width=30)
    assert plainyaml.parse(text) == yaml.load(text, yaml.BaseLoader)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.text(alphabet="[]{}'\",:-# \n|>&*!?ab\\", max_size=80)))
@example("%")
@example("%\n---")
@example("-\n-\n -")
@example("a: |")
@example('"\\')
@example('a: "\\U00110000"')
def test_any_text_gives_a_value_or_a_value_error(text):
    try:
        plainyaml.parse(text)
    except ValueError as error:
        assert str(error).startswith("line ")  # noqa: PT017 - either end is right


@pytest.mark.parametrize(
    "text",
    [
        "a" + " " * 200_000 + "b",
        "[" + "a, " * 70_000 + "]",
        "x: '" + "a\n" * 100_000,
        "- 'a'\n" * 40_000,
        "a #" * 60_000,
    ],
    ids=["blanks", "a long list", "a text without an end", "many texts", "marks of comments"],
)
def test_the_time_that_reading_takes_grows_with_the_length_alone(text):
    began = time.monotonic()
    with contextlib.suppress(ValueError):
        plainyaml.parse(text)
    assert time.monotonic() - began < 5
