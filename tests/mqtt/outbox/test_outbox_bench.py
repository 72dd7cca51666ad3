"""The benchmark of the outbox tells every figure, and loses nothing in a short run of kills."""

from __future__ import annotations

import json

import pytest

from scripts.benchmarks import outbox


def test_a_short_run_tells_every_figure_and_loses_nothing(capfd: pytest.CaptureFixture[str]):
    outbox.main(
        ["--json", "--messages", "300", "--rounds", "1", "--latencies", "10", "--queued", "3000", "--chaos", "3"]
    )
    figures = json.loads(capfd.readouterr().out)
    assert {"msgs_per_s", "added_ms_p50", "rss_mb_at_3000", "lost", "duplicates_by_id"} <= set(figures)
    assert figures["acknowledged"] > 0
    assert (figures["lost"], figures["duplicates_other"], figures["out_of_order"]) == (0, 0, 0)
