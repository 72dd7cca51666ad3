"""docs/results.md: its examples are results, its table has every kind, its figures are of what tasks may give."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

import agent
from agent.inference import masks
from agent.inference.predictions import KINDS, Mask, read
from agent.inference.runtime import contracts, kinds
from agent.results.attachments import LARGE, MAX_ATTACHMENTS
from scripts.benchmarks.kinds import frames, measured, table
from tests.results.made_results import result
from tests.results.test_schemas import VALIDATORS

PAGE = (Path(agent.__file__).parents[1] / "docs" / "results.md").read_text()
EXAMPLES = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_the_predictions_of_a_result(example) -> None:
    told = json.loads(example)
    VALIDATORS["native"].validate(json.loads(msgspec.json.encode(result())) | {"predictions": told})
    for one in read(told):
        if isinstance(getattr(one, "mask", None), Mask):
            assert masks.area(one.mask) > 0


def test_the_table_has_every_kind_with_all_its_keys() -> None:
    rows = dict(re.findall(r"^\| `?(\w+)`? \| (.*?) \|", PAGE.partition("## Masks")[0], re.MULTILINE))
    assert rows.keys() - {"kind"} == KINDS.keys()
    for kind, of in KINDS.items():
        known = set(of.__struct_fields__) - {
            "attachment",
            *(("label", "label_id", "score") if kind == kinds.DETECTION else ()),
        }
        assert set(re.findall(r"`(\w+)`", rows[kind].partition(" | ")[0])) == known


def test_the_bounds_of_attachments_are_those_that_the_page_tells() -> None:
    assert f"more than {LARGE} bytes" in PAGE
    assert f"at most {MAX_ATTACHMENTS}" in PAGE


def test_the_bench_of_kinds_measures_what_tasks_may_give_and_the_page_has_its_rows() -> None:
    made = frames()
    for predictions in made.values():
        contracts.predictions(predictions, "task")
    assert {kinds.kind_of(one) for predictions in made.values() for one in predictions} == KINDS.keys()
    told = table({name: measured(made[name]) for name in list(made)[:1]})
    assert told.split("\n")[0] in PAGE
    for name in made:
        assert f"| {name} |" in PAGE


@pytest.mark.parametrize(("name", "most"), [("boxes with masks 160×160, 10", 4000), ("bodies of 17 points, 5", 8000)])
def test_a_result_with_masks_or_bodies_is_a_few_thousand_bytes(name, most) -> None:
    told = measured(frames()[name])
    assert told["result_bytes"] < most
    assert told["attached_bytes"] == 0
