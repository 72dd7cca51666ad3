from __future__ import annotations

import pytest

from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.options import Options


def test_values_are_read_with_their_types_and_defaults():
    options = Options(
        {"top_k": 3, "threshold": 1, "nms": "none", "coder": {"scale": [10, 10, 5, 5]}, "maps": [19, [5, 3]]}
    )
    assert options.integer("top_k", 5, 1, 10) == 3
    assert options.integer("limit", 5, 1, 10) == 5
    assert options.number("threshold", 0.3, 0.0, 1.0) == 1.0
    assert options.choice("nms", "class", ("class", "none")) == "none"
    assert options.flag("background") is None
    assert options.tensor("output") is None
    assert options.sizes("maps", ()) == ((19, 19), (5, 3))
    assert options.table("coder").numbers("scale", (1, 1, 1, 1), 0.0, 4) == (10.0, 10.0, 5.0, 5.0)
    assert options.numbers("mean", None, 0.0) is None
    options.done()


@pytest.mark.parametrize(
    ("given", "ask", "hint"),
    [
        ({"k": 0}, lambda o: o.integer("k", 5, 1, 10), "whole number from 1 to 10"),
        ({"k": True}, lambda o: o.integer("k", 5, 1, 10), "whole number"),
        ({"k": 2.0}, lambda o: o.integer("k", 5, 1, 10), "whole number"),
        ({"k": float("nan")}, lambda o: o.number("k", 0.5, 0, 1), "number from 0 to 1"),
        ({"k": "1"}, lambda o: o.number("k", 0.5, 0, 1), "number from 0 to 1"),
        ({"k": [10**400]}, lambda o: o.numbers("k", (1,), 0), "numbers above 0"),
        ({"k": 1}, lambda o: o.flag("k"), "true or false"),
        ({"k": "sofmax"}, lambda o: o.choice("k", "auto", ("auto", "softmax")), "one of auto, softmax"),
        ({"k": [1, 2]}, lambda o: o.numbers("k", (1,), 0, 4), "list of 4 numbers"),
        ({"k": []}, lambda o: o.numbers("k", (1,), 0), "one or more numbers"),
        ({"k": [0]}, lambda o: o.numbers("k", (1,), 0), "above 0"),
        ({"k": [[1, 2, 3]]}, lambda o: o.sizes("k", (1,)), "list of sizes"),
        ({"k": [1_000_000]}, lambda o: o.sizes("k", (1,)), "sizes from 1 to 512"),
        ({"k": 1.5}, lambda o: o.tensor("k"), "index or the name"),
        ({"k": 3}, lambda o: o.table("k"), "a table"),
    ],
)
def test_a_wrong_value_is_refused_with_what_to_give(given, ask, hint):
    with pytest.raises(ModelError, match=r"options\.k is ") as caught:
        ask(Options(given))
    assert caught.value.code == "options-wrong"
    assert hint in caught.value.hint


def test_an_unknown_key_is_refused_with_the_nearest_known_one():
    options = Options({"treshold": 0.5})
    options.number("threshold", 0.3, 0, 1)
    with pytest.raises(ModelError, match=r"unknown key options\.treshold") as caught:
        options.done()
    assert "did you mean options.threshold?" in caught.value.hint


def test_an_unknown_key_of_a_table_is_refused_with_its_whole_name():
    options = Options({"anchors": {"min_size": 1}})
    options.table("anchors").number("min_scale", 0.2, 0, 1)
    with pytest.raises(ModelError, match=r"unknown key options\.anchors\.min_size"):
        options.done()


def test_a_long_value_is_shown_in_part():
    with pytest.raises(ModelError) as caught:
        Options({"k": "x" * 10_000}).integer("k", 1, 1, 2)
    assert len(caught.value.message) < 120
