from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.inference.runtime import labels
from agent.inference.runtime.errors import ModelError

FORMS = [
    ("one name per line", "cat\ndog\n", {0: "cat", 1: "dog"}),
    ("trailing blank lines do not count", "cat\ndog\n\n  \n", {0: "cat", 1: "dog"}),
    ("a blank line inside is a class without name", "cat\n\ndog", {0: "cat", 2: "dog"}),
    ("Windows line ends", "cat\r\ndog\r\n", {0: "cat", 1: "dog"}),
    ("a byte order mark", "\ufeffcat\ndog", {0: "cat", 1: "dog"}),
    ("names may hold commas, digits and blanks", "tench, Tinca tinca\nF 16\n", {0: "tench, Tinca tinca", 1: "F 16"}),
    ("numbered with blanks", "0 background\n1 person\n3 car\n", {0: "background", 1: "person", 3: "car"}),
    ("numbered from one", "1  person\n2  bicycle\n", {1: "person", 2: "bicycle"}),
    ("numbered with colons, in any order", "1: dog\n0: cat\n", {0: "cat", 1: "dog"}),
    ("numbers that are part of the names", "10 euro\n20 euro\n50 euro", {0: "10 euro", 1: "20 euro", 2: "50 euro"}),
    ("JSON list", '["cat", null, "dog"]', {0: "cat", 2: "dog"}),
    ("JSON object by number", '{"0": "cat", "2": "dog"}', {0: "cat", 2: "dog"}),
    ("JSON object by name", '{"cat": 0, "dog": 2}', {0: "cat", 2: "dog"}),
    ("Python list", "['cat',\n 'dog',]", {0: "cat", 1: "dog"}),
    ("Python dict", "{0: 'cat',\n 1: \"dog's\"}\n", {0: "cat", 1: "dog's"}),
    ("Python dict by name", "{'cat': 0, 'dog': 1}", {0: "cat", 1: "dog"}),
    ("Python text with a stray backslash", r"['c\dt', 'dog']", {0: r"c\dt", 1: "dog"}),
    ("a first name in brackets", "[PAD]\ncat", {0: "[PAD]", 1: "cat"}),
]


@pytest.mark.parametrize(("text", "names"), [form[1:] for form in FORMS], ids=[form[0] for form in FORMS])
def test_each_form_of_a_label_file_is_read(text, names):
    assert dict(labels.parse(text).names) == names


REFUSED = [
    ("nothing", "", "no label"),
    ("only blanks", "\n \n", "no label"),
    ("a JSON list cut off", '["cat", "dog"', "line 1"),
    ("a Python literal broken on its second line", "['cat',\n 'dog' 'x': 1]", "line 2"),
    ("a number said twice", "0: cat\n1: dog\n1: cow", "line 3: class 1"),
    ("a call instead of a literal", "['a', __import__('os').getcwd()]", "neither JSON nor a plain Python"),
    ("a nested list", '[["cat"]]', "no number with one name"),
    ("numbers alone", "[1, 2]", "no number with one name"),
    ("two names for one number", '{"cat": 0, "dog": 0}', "no number with one name"),
    ("a negative number", '{"cat": -1}', "no number with one name"),
    ("true is no number", '{"cat": true}', "no number with one name"),
    ("too long", "x" * (labels.MAX_BYTES + 1), "longer"),
]


@pytest.mark.parametrize(("text", "told"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_label_file_that_cannot_be_read_says_where_and_how_to_write_one(text, told):
    with pytest.raises(ModelError, match=told) as caught:
        labels.parse(text, "labels.txt")
    assert caught.value.code == "labels-unreadable"
    assert caught.value.message.startswith("labels.txt: ")
    assert caught.value.hint


def test_a_file_in_another_encoding_is_refused_with_its_line(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("cat\ncafé\n".encode("latin-1"))
    with pytest.raises(ModelError, match=r"labels.txt: line 2 is not UTF-8"):
        labels.read(path)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match=r"labels.txt: No such file"):
        labels.read(tmp_path / "labels.txt")


def test_a_file_past_the_limit_is_refused_without_being_read_whole(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(b"cat\n" * labels.MAX_BYTES)
    with pytest.raises(ModelError, match="longer than"):
        labels.read(path)


def test_labels_from_metadata_keep_their_numbers():
    assert dict(labels.of(["cat", "", None, " dog "]).names) == {0: "cat", 3: "dog"}


def test_a_class_without_name_is_called_by_its_number():
    assert labels.parse("cat\n\ndog").name(1) == "class 1"


SHIFTS = [
    ("labels for every class", "cat\ndog", 2, None, (0, 0)),
    ("the background is told and listed", "none\ncat\ndog", 3, True, (1, 0)),
    ("the background is told and not listed", "cat\ndog", 3, True, (1, -1)),
    ("the background is named", "Background\ncat\ndog", 3, None, (1, 0)),
    ("the background is named as TensorFlow does", "???\ncat\ndog", 3, None, (1, 0)),
    ("a named background that is told to be a class", "???\ncat\ndog", 3, False, (0, 0)),
    ("ImageNet's 1000 names for 1001 classes", "\n".join(f"n{n}" for n in range(1000)), 1001, None, (1, -1)),
    ("a name is missing", "cat\ndog", 3, None, (0, 0)),
]


@pytest.mark.parametrize(
    ("text", "classes", "background", "expected"), [case[1:] for case in SHIFTS], ids=[case[0] for case in SHIFTS]
)
def test_columns_and_labels_are_laid_beside_each_other(text, classes, background, expected):
    assert labels.shift(labels.parse(text), classes, background) == expected


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.text(alphabet="[]{}()'\",:0123456789 -+*abu\\\n", max_size=60)))
@example("[" * 5000)
@example("{'" + "-" * 5000 + "1': 2}")
@example("['a'" + "+'a'" * 20000 + "]")
@example("[0" + "*0" * 20000 + "]")
@example("{0: 'a', 9999999999999999999999: 'b'}")
@example('{"' + "9" * 5000 + '": "a"}')
@example("[" + "9" * 5000 + "]")
@example("['\\ud800']")
@example("['a\x00']")
def test_any_text_gives_labels_or_a_model_error(text):
    try:
        names = labels.parse(text).names
    except ModelError as error:
        assert error.code == "labels-unreadable"  # noqa: PT017 - either end is right
    else:
        assert names
        assert all(isinstance(number, int) and number >= 0 and name.strip() for number, name in names.items())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20).map(str.strip).filter(bool), min_size=1, max_size=30))
def test_what_json_and_python_write_is_read_back(names):
    expected = dict(enumerate(names))
    assert dict(labels.parse(json.dumps(names)).names) == expected
    assert dict(labels.parse(repr(names)).names) == expected
    assert dict(labels.parse(json.dumps({str(n): name for n, name in expected.items()})).names) == expected
