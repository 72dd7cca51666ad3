"""How far a fetch is, told often enough and not too often."""

from __future__ import annotations

from agent.greengrass.artifacts.fetch import Meter, Progress


def test_progress_is_told_once_an_interval_and_at_the_end():
    on_progress, now = [], [0.0]
    meter = Meter(on_progress.append, interval_s=1.0, clock=lambda: now[0])
    meter.expect("a", 10)
    meter.expect("b", None)
    for step in range(1, 6):
        now[0] = step * 0.5
        meter.advance("a", 2 * step, 10)
    assert [progress.bytes_done for progress in on_progress] == [2, 6, 10]
    assert on_progress[-1].bytes_total is None
    meter.finish("a")
    meter.advance("b", 5, 5)
    meter.finish("b")
    assert on_progress[-1] == Progress(bytes_done=15, bytes_total=15, artifacts_done=2, artifacts_total=2)
    assert len(on_progress) == 4
