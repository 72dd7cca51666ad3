"""Wrong requests against every interface of a real agent: a short run of ``scripts/check-apis``."""

from __future__ import annotations

import shutil

import pytest

from scripts import api_fuzz


@pytest.mark.skipif(not shutil.which("mosquitto"), reason="needs mosquitto: apt-get install mosquitto")
def test_wrong_requests_are_refused_and_the_agent_answers_the_right_ones_after_them() -> None:
    figures = api_fuzz.measure(600, seed=2)
    assert {name: figures[name] for name in ("answered_after", "faults", "restarts")} == {
        "answered_after": True,
        "faults": {},
        "restarts": 0,
    }
    assert figures["statuses"]["INVALID_ARGUMENT"] > 100
    assert not {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"} & figures["statuses"].keys()
