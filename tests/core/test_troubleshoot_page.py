"""The page on troubles quotes what the agent says: each quoted sentence and code is one that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import agent

ROOT = Path(agent.__file__).parent
PAGE = ROOT.parent / "docs" / "troubleshoot.md"
_SEEN = re.compile(r"^\| (?!what you see|how it ended|code|---)(.+?) \| ", re.MULTILINE)
_QUOTED = re.compile(r"`([^`]+)`")


def sources() -> str:
    """All of the agent's code, with texts over several lines joined and values left out."""
    text = "\n".join(path.read_text() for path in sorted(ROOT.rglob("*.py")))
    joined = re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)
    return re.sub(r"\{[^{}\n]*\}", "…", joined)


def quotes() -> list[str]:
    """What stands in backticks in the tables' first columns."""
    columns = "\n".join(_SEEN.findall(PAGE.read_text()))
    return sorted(set(_QUOTED.findall(columns)))


@pytest.fixture(scope="module")
def code() -> str:
    return sources()


@pytest.mark.parametrize("quote", quotes())
def test_what_the_page_quotes_is_what_the_agent_says(code, quote) -> None:
    parts = [part.strip() for part in re.split(r"…|SIG[A-Z]+", quote)]
    for part in filter(None, parts):
        assert part in code, f"nobody says {part!r}"


def test_every_trouble_has_a_reason_and_a_cure() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 50
    for row in rows:
        cells = re.split(r"(?<!\\) \| ", row.strip("| "))
        assert len(cells) == 3, row
        assert all(cell.strip() for cell in cells)
