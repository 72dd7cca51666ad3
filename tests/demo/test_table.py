"""What the demo shows, on terminals of several widths and where there is none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agent.demo.scores import CameraRow, Percentiles, Scores, StreamReport
from agent.demo.table import LiveTable, PlainLines, Setting, final, picture, view

SETTING = Setting(
    broker="mosquitto 127.0.0.1:40563",
    port=40563,
    agent="verge 0.1.0, process 23983",
    model="ssd-mobilenet-v2 1.0.0 litert 2.3.0",
    snapshots="/tmp/verge-demo-l9c_lm9o/snapshots",
    news=("results", "verge/demo/results/#"),
)
ROWS = [
    CameraRow(camera="front-door", frames=12345, answered=12000, dropped=344, failed=1, fps=9.9,
        latency_ms=Percentiles(31.5, 164.9), sees="Person 59%, Bottle 32%"),
    CameraRow(camera="line-3", frames=0, answered=0, dropped=0, failed=0, fps=0.0,
        latency_ms=Percentiles(None, None), sees=""),
]  # fmt: skip


def drawn(width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(picture(SETTING, ROWS))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_headings_and_numbers_are_whole_and_no_line_is_longer_than_the_terminal(width):
    text = drawn(width)
    assert max(map(len, text.splitlines())) <= width
    for whole in ("camera", "frames", "answered", "dropped", "failed", "fps", "p50/p95 ms", "sees now"):
        assert whole in text
    for whole in ("front-door", "12345", "12000", "344", "9.9", "32/165", "–/–", "line-3"):
        assert whole in text


def test_at_80_columns_the_best_prediction_is_readable():
    assert "Person 59%" in drawn(80)


def test_at_120_columns_nothing_is_cut():
    assert "Person 59%, Bottle 32%" in drawn(120)


def test_the_header_says_where_pictures_are_how_to_listen_and_how_to_end():
    text = drawn(80)
    assert SETTING.snapshots in text
    assert "mosquitto_sub -V 5 -p 40563 -t 'verge/demo/results/#'" in text
    assert "Ctrl-C" in text


def test_what_the_rows_come_to_stands_below_them_in_a_table_and_in_a_line():
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(picture(SETTING, ROWS, "9 parts: 2 of 2"))
    assert "9 parts: 2 of 2" in [line.strip() for line in console.file.getvalue().splitlines()]
    console = Console(file=io.StringIO())
    with PlainLines(console, SETTING) as lines:
        lines._due = 0.0
        lines.show(ROWS, "9 parts: 2 of 2")
    assert console.file.getvalue().endswith("sees …; 9 parts: 2 of 2\n")


def test_brackets_in_a_label_are_text_and_no_markup():
    console = Console(width=120, file=io.StringIO(), color_system=None)
    row = CameraRow(camera="[red]", frames=1, answered=1, dropped=0, failed=0, fps=1.0,
              latency_ms=Percentiles(1.0, 1.0), sees="[bold]cup")  # fmt: skip
    console.print(picture(SETTING, [row]))
    assert "[red]" in console.file.getvalue()
    assert "[bold]cup" in console.file.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_live_table_and_anything_else_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(view(Console(file=Terminal()), SETTING), LiveTable)
    assert isinstance(view(Console(file=io.StringIO()), SETTING), PlainLines)
    assert isinstance(view(Console(file=io.StringIO(), force_terminal=True), SETTING), PlainLines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view(Console(file=Terminal()), SETTING), PlainLines)


def test_lines_begin_with_the_setting_and_come_every_few_seconds_only():
    console = Console(file=io.StringIO(), width=40)
    with PlainLines(console, SETTING) as lines:
        for _ in range(100):
            lines.show(ROWS)
    text = console.file.getvalue()
    assert text.splitlines() == [
        "broker: mosquitto 127.0.0.1:40563",
        "agent: verge 0.1.0, process 23983",
        "model: ssd-mobilenet-v2 1.0.0 litert 2.3.0",
        "snapshots: /tmp/verge-demo-l9c_lm9o/snapshots",
        "results: mosquitto_sub -V 5 -p 40563 -t 'verge/demo/results/#'",
    ]


def test_the_last_picture_of_the_live_table_stays_on_the_screen():
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with LiveTable(console, SETTING) as table:
        table.show(ROWS)
    assert "front-door" in console.file.getvalue()


def test_the_final_words_say_whether_the_books_balance():
    scores = Scores(["line-3"])
    assert "\nevery frame is accounted for" in final(scores.summary({}), "folder")
    scores.on_report(StreamReport(state="RUNNING", received=2, dropped={"superseded": 1}))
    text = final(scores.summary({"line-3": 2}), "folder")
    assert "NOT every frame is accounted for" in text
    assert "superseded: 1" in text
    assert "annotated pictures: folder" in text
