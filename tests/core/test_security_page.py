"""The page on security is a session that was run, beside a device that trusts what it makes."""

from __future__ import annotations

import re
from pathlib import Path

import agent
from tests.scenarios import test_attacks
from tests.support import agent as agents
from tests.support.pages import session

PAGE = (Path(agent.__file__).parents[1] / "docs" / "security.md").read_text()
MADE, SENT = re.split(r"^(?=### Deploy$)", PAGE, flags=re.MULTILINE)


def test_the_session_on_the_page_runs_as_it_is_shown(broker, tmp_path) -> None:
    assert session(MADE, tmp_path) >= 9
    config = agents.configuration("press-7", broker.port, tmp_path, {}) | {"models": {}, "streams": {}}
    config |= {"data_dir": str(tmp_path / "press-7")}
    options = {"jobs": False, "shadow": False, "accept": "signed", "trust_list": "keys.signed.json"}
    with agents.running(config | {"deployments": options}, tmp_path):
        here = SENT.replace("--to press-7", f"--broker mqtt://127.0.0.1:{broker.port} --to press-7")
        assert session(here, tmp_path) >= 10


def test_every_attack_of_the_list_has_a_row_and_a_test() -> None:
    table = re.search(r"^\| attack \|.*?\n\n", PAGE, re.DOTALL | re.MULTILINE)
    assert table is not None
    rows = [line.split("|")[1].strip() for line in table[0].strip().splitlines()[2:]]
    tests = [name for name in vars(test_attacks) if name.startswith("test_")]
    assert (len(rows), len(tests)) == (11, 12)  # endless data is tried at two places
