from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.inference.runtime import labels
from agent.inference.runtime.errors import ModelError

pytestmark = pytest.mark.arch

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
    ("numbered in any order", "2 cow\n0 cat\n1 dog", {0: "cat", 1: "dog", 2: "cow"}),
    ("numbered downwards", "2 cow\n1 dog\n0 cat", {0: "cat", 1: "dog", 2: "cow"}),
    ("numbered with commas and gaps", "7,cat\n3,dog", {3: "dog", 7: "cat"}),
    ("numbered with points", "1. cat\n2. dog", {1: "cat", 2: "dog"}),
    ("numbered with tabs", "0\tcat\n1\tdog", {0: "cat", 1: "dog"}),
    ("numbered and quoted", "0: 'tench, Tinca tinca',\n1: \"goldfish\",", {0: "tench, Tinca tinca", 1: "goldfish"}),
    ("numbered below a remark", "# made by hand\n0 cat\n1 dog", {0: "cat", 1: "dog"}),
    ("numbers behind the names", "cat,1\ndog,0", {0: "dog", 1: "cat"}),
    ("numbers behind the names after a blank", "/a/airfield 0\n/a/alley 1", {0: "/a/airfield", 1: "/a/alley"}),
    ("numbers that names end in", "F 16\nF 35", {0: "F 16", 1: "F 35"}),
    ("numbers from one that names differ in", "1 euro\n2 euro\n5 euro", {0: "1 euro", 1: "2 euro", 2: "5 euro"}),
    ("Teachable Machine's", "0 Class 1\n1 Class 2\n", {0: "Class 1", 1: "Class 2"}),
    ("WordNet's numbers", "n01440764 tench, Tinca tinca\nn01443537 goldfish", {0: "tench, Tinca tinca", 1: "goldfish"}),
    ("WordNet's numbers and others", "n02119789 1 kit_fox\nn02100735 2 setter", {1: "kit_fox", 2: "setter"}),
    ("WordNet's numbers alone are names", "n01440764\nn01443537", {0: "n01440764", 1: "n01443537"}),
    ("all on one line", "cat;dog;bird\n", {0: "cat", 1: "dog", 2: "bird"}),
    ("columns with heads", "id,name\n0,cat\n1,dog", {0: "cat", 1: "dog"}),
    ("columns in another order", "label\tindex\ncat\t1\ndog\t0", {0: "dog", 1: "cat"}),
    ("columns with a label that is a number", "label;description\n4;cat\n2;dog", {2: "dog", 4: "cat"}),
    (
        "more columns",
        'index,mid,display_name\n0,/m/1,Speech\n1,/m/2,"Child, speaking"',
        {0: "Speech", 1: "Child, speaking"},
    ),
    ("columns without numbers", "WNID,label\nn01440764,tench\nn01443537,goldfish", {0: "tench", 1: "goldfish"}),
    ("a data frame's", ",name\n0,cat\n1,dog", {0: "cat", 1: "dog"}),
    ("Ultralytics' list", "path: ../coco  # here\nnc: 2\nnames: ['cat', 'dog']\n", {0: "cat", 1: "dog"}),
    ("Ultralytics' mapping", "names:\n  0: cat\n  1: dog\ndownload: |\n  x: [1\n", {0: "cat", 1: "dog"}),
    ("a list in YAML", "# mine\n- cat\n- no\n", {0: "cat", 1: "no"}),
    ("Paddle's", "PostProcess:\n  name: Topk\n  label_list:\n  - cat\n  - dog\n", {0: "cat", 1: "dog"}),
    ("characters in YAML", "PostProcess:\n  character_dict:\n  - 　\n  - '#'\n  - ' '\n", {0: "　", 1: "#", 2: " "}),
    ("characters", "　\n[\n{\n \n1\n,\n#\n", dict(enumerate("　[{ 1,#"))),
    ("Hugging Face's config.json", '{"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}}', {0: "cat", 1: "dog"}),
    ("Hugging Face's the other way round", '{"label2id": {"cat": 1, "dog": 0}}', {0: "dog", 1: "cat"}),
    ("a list below a key", '{"version": 1, "classes": ["cat", "dog"]}', {0: "cat", 1: "dog"}),
    (
        "COCO's categories",
        '{"info": {}, "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]}',
        {1: "cat", 3: "dog"},
    ),
    (
        "Keras' class index",
        '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
        {0: "tench", 1: "goldfish"},
    ),
    (
        "TensorFlow's label map",
        "item {\n  id: 1\n  name: 'cat'\n}\nitem {\n  id: 3\n  name: 'dog'\n}",
        {1: "cat", 3: "dog"},
    ),
    (
        "a label map that says more",
        """item {
  name: "/m/01g317" # a person
  id: 1
  display_name: "caf\\303\\251"
  keypoints { id: 1 label: "nose" }
  ancestor_ids: [2, 3]
}""",
        {1: "café"},
    ),
    ("a label map without what is 0", 'item { name: "none" }\nitem { id: 1, name: "cat"; }', {0: "none", 1: "cat"}),
    (
        "Caffe's label map",
        """item {
  name: "none_of_the_above"
  label: 0
  display_name: "background"
}
item { name: "aeroplane" label: 1 display_name: "aeroplane" }""",
        {0: "background", 1: "aeroplane"},
    ),
    ("a fixed buffer's rest", "cat\ndog\x00\x00\x00", {0: "cat", 1: "dog"}),
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
    ("two names for one number", '{"cat": 0, "dog": 0}', "class 0 has a name already"),
    ("two names for one number in lines", "0 cat\n1 dog\n1 cow", "line 3: class 1"),
    ("two names for one number in columns", "id,name\n0,cat\n0,dog", "row 2: class 0"),
    ("numbers that may be a part of the names", "500 ml can\n330 ml bottle\n1 l carton", "may be a part of the names"),
    ("a row that is too short", "id,name\n0,cat\n1", "line 3 has not all of the columns id, name"),
    ("YAML without names", "train: images\nnames:\n", "no number with one name"),
    ("YAML of fewer names than it says", "nc: 3\nnames: [cat, dog]", "nc = 3 and names 2"),
    ("YAML with a tag", "names: !!python/tuple [a]", "line 1 has an anchor"),
    ("JSON without labels", '{"architectures": ["ViT"], "model_type": "vit"}', "no number with one name"),
    ("a label map cut off", 'item { id: 1 name: "cat"', "ends before a }"),
    ("a label map cut off in a text", 'item { id: 1 name: "cat', "line 1 begins a text"),
    ("a label map without names", "item { id: 1 }", "no number with one name"),
    ("settings of Darknet", "classes = 2\nnames = coco.names", "holds settings"),
    ("a page of HTML", "<!DOCTYPE html>\n<html></html>", "code or markup"),
    ("code", "names = [\n  'cat',\n]", "code or markup"),
    ("what Git LFS keeps", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9", "Git LFS"),
    ("bytes that are no text", "cat\nd\x00og", "line 2 holds the byte 0x00"),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_is_read_in_utf_8_and_where_its_first_bytes_say_so_in_utf_16(tmp_path, encoding):
    path = tmp_path / "labels.txt"
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    path.write_bytes(f"{mark}café\r\nCañon\r\n".encode(encoding))
    assert dict(labels.read(path).names) == {0: "café", 1: "Cañon"}


def test_utf_16_without_its_mark_is_refused(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("cat\ndog\n".encode("utf-16-le"))
    with pytest.raises(ModelError, match=r"labels.txt: line 1 holds the byte 0x00: is it text, in UTF-8"):
        labels.read(path)


@pytest.mark.parametrize("name", ["data.yaml", "inference.yml"])
def test_a_file_that_is_called_yaml_is_nothing_else(tmp_path, name):
    path = tmp_path / name
    path.write_text("0: cat\n1: dog\n")
    assert dict(labels.read(path).names) == {0: "cat", 1: "dog"}
    path.write_text("cat\ndog\n")
    with pytest.raises(ModelError, match=name):
        labels.read(path)


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
    ("labels from one on for as many classes", '{"1": "cat", "2": "dog"}', 2, None, (0, 1)),
    ("labels from one on and a background", '{"1": "cat", "2": "dog"}', 3, None, (0, 0)),
    ("a background that the network does not have", "background\ncat\ndog", 2, None, (0, 1)),
    ("numbers with gaps", '{"1": "cat", "3": "dog", "90": "brush"}', 91, None, (0, 0)),
    ("numbers with gaps from one on", '{"1": "cat", "3": "dog", "90": "brush"}', 90, None, (0, 1)),
    ("some of the classes by number", '{"281": "tabby", "285": "Egyptian cat"}', 1000, None, (0, 0)),
    ("classes without name at the end", '["cat", null, null]', 3, None, (0, 0)),
    ("no labels at all", None, 3, None, (0, 0)),
    ("no labels at all and a background", None, 3, True, (1, 0)),
]


@pytest.mark.parametrize(
    ("text", "classes", "background", "expected"), [case[1:] for case in SHIFTS], ids=[case[0] for case in SHIFTS]
)
def test_columns_and_labels_are_laid_beside_each_other(text, classes, background, expected):
    given = labels.parse(text) if text else labels.of([])
    assert labels.shift(given, classes, background) == expected


MISFITS = [
    ("a name is missing", "cat\ndog", 3, None, r"x.txt names 2 classes, and the network has 3"),
    ("a name is missing and column 0 is a class", "cat\ndog", 3, False, "names 2 classes, and the network has 3"),
    ("a name too many", "cat\ndog\ncow", 2, None, "names 3 classes, and the network has 2"),
    ("a background of a network that has more to it", "???\ncat", 4, None, "names 2 classes, and the network has 4"),
    ("a background that is told and not there", "cat\ndog", 1, True, "names 2 classes, and the network has 1"),
    ("numbers with gaps that go too far", '{"1": "cat", "90": "brush"}', 80, None, "up to 90, and the network has 80"),
    ("as many as the file says and not the network", "nc: 2\nnames: [a, b]", 3, None, "names 2 classes"),
]


@pytest.mark.parametrize(
    ("text", "classes", "background", "told"), [case[1:] for case in MISFITS], ids=[case[0] for case in MISFITS]
)
def test_labels_that_are_not_the_networks_are_refused_with_both_numbers(text, classes, background, told):
    with pytest.raises(ModelError, match=told) as caught:
        labels.shift(labels.parse(text, "x.txt"), classes, background)
    assert caught.value.code == "labels-count-wrong"
    assert caught.value.hint


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
        assert all(
            isinstance(number, int) and number >= 0 and (name.strip() or len(name) == 1)
            for number, name in names.items()
        )


RUN = 40_000


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("a" + "\t" * RUN + "b", "labels.txt"),
        ("a" + " " * RUN + "b", "labels.txt"),
        ("\n" * RUN + "ab", "labels.txt"),
        ("item" + "\n" * RUN + "ab", "labels.txt"),
        ('names:\n- "a' + " " * RUN + 'b"', "data.yaml"),
    ],
    ids=("tabs", "blanks", "empty lines", "empty lines behind a word", "blanks in quotes"),
)
def test_long_runs_of_blanks_cost_no_more_than_they_are_long(text, source):
    began = time.process_time()
    assert labels.parse(text, source).names
    assert time.process_time() - began < 3  # the square would be a quarter of a minute


def test_eight_is_no_digit_of_an_octal_escape():
    assert labels.parse(r'item { id: 1 name: "a\8b" } item { id: 2 name: "a\1018" }').names == {1: "a8b", 2: "aA8"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20).map(str.strip).filter(bool), min_size=1, max_size=30))
def test_what_json_and_python_write_is_read_back(names):
    expected = dict(enumerate(names))
    assert dict(labels.parse(json.dumps(names)).names) == expected
    assert dict(labels.parse(repr(names)).names) == expected
    assert dict(labels.parse(json.dumps({str(n): name for n, name in expected.items()})).names) == expected
