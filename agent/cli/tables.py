"""What commands show people: aligned, calm, and whole at 80 columns.  rich lays tables out to the terminal's width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agent.cli.answering import Answered
from agent.inference.predictions import Box, Detection, Prediction, Tensor, Text, headline, numbers_of
from agent.inference.values import Answer, Description

__all__ = ["console", "show_answers", "show_model", "table", "tensor"]

_BAR = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_VALUES = 4
_NAME = 32


def console() -> Console:
    """Standard output; colours and width are the terminal's."""
    return Console(highlight=False, emoji=False)


def table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = ()) -> Table:
    """A table without lines; ``right`` names the columns of numbers, ``whole`` others that are not broken."""
    made = Table(box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        made.add_column(
            name, justify="right" if name in right else "left", no_wrap=name in (*right, *whole), overflow="fold"
        )
    return made


def show_model(model: Description) -> None:
    """One line: which model answers, and what runs it."""
    name = f"{model.name} {model.version}".rstrip()
    ran = f"{model.backend} on {model.accelerator}, loaded in {model.load_ms:.0f} ms"
    console().print(f"[bold]{escape(name)}[/]  [dim]{escape(ran)}[/]\n")


def show_answers(answered: Iterable[Answered]) -> None:
    """A row a prediction, best first; the picture's name and time stand in its first row."""
    told = [(one, one.outcome) for one in answered if isinstance(one.outcome, Answer)]
    boxes = any(_box(prediction) for _, answer in told for prediction in answer.predictions)
    place = "x, y  width × height" if boxes else ""
    made = table(
        "image", "label", "score", place, "ms", right=("score", "ms"), whole=("image", *([place] if boxes else []))
    )
    for one, answer in told:
        rows = [_row(prediction, answer, boxes=boxes) for prediction in answer.predictions] or [
            ("[dim]nothing[/]", "", "")
        ]
        for number, row in enumerate(rows):
            first = not number
            made.add_row(escape(_end(one.source.name)) if first else "", *row, f"{one.total_ms:.1f}" if first else "")
    console().print(made)


def tensor(told: dict[str, Any]) -> str:
    """A tensor's type, shape and quantisation in a line."""
    line = f"{told['dtype']} [{', '.join('?' if side < 0 else str(side) for side in told['shape'])}]"
    if quantised := told.get("quantization"):
        line += f", scale {quantised['scale']:.6g}, zero point {quantised['zero_point']}"
    return line


def _row(prediction: Prediction, answer: Answer, *, boxes: bool) -> tuple[str, str, str]:
    if isinstance(prediction, Tensor):
        numbers = _first(prediction.data if prediction.encoding is None else numbers_of(prediction))
        described = tensor({"dtype": prediction.dtype, "shape": prediction.shape})
        return escape(prediction.name), "", escape(f"{described}: {numbers}")
    name, score = headline(prediction)
    place = _place(_box(prediction), answer) if boxes else f"[green]{_bar(score or 0)}[/]"
    return escape(name), "" if score is None else f"{score:.3f}", place


def _end(name: str) -> str:
    """A name that fits a column: of a long path, its end tells more."""
    return name if len(name) <= _NAME else "…" + name[1 - _NAME :]


def _box(prediction: Prediction) -> Box | None:
    return prediction.box if isinstance(prediction, Detection | Text) else None


def _place(box: Box | None, answer: Answer) -> str:
    if box is None:
        return ""
    x, width = round(box.x * answer.width), round(box.width * answer.width)
    y, height = round(box.y * answer.height), round(box.height * answer.height)
    return f"{x:4d}, {y:<4d}  {width} × {height}"


def _bar(share: float) -> str:
    """A bar of ``_BAR`` cells for 1; eighths of a cell are seen."""
    eighths = round(max(0.0, min(1.0, share)) * _BAR * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _first(data: Any) -> str:
    """The first values of nested lists."""
    values: list[Any] = [data]
    while values and isinstance(values[0], list):
        values = values[0]
    shown = ", ".join(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values[:_VALUES])
    return shown + (", …" if len(values) > _VALUES else "")
