"""What a model says of pictures, as a table for people: a row a prediction, best first.

rich is slow to import, so only what shows a table imports this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from agent.cli.tables import cell, console, table
from agent.cli.telling import Told, box_of, told
from agent.inference.predictions import Classification, Segmentation
from agent.inference.values import Answer

if TYPE_CHECKING:
    from agent.cli.pictures import PictureResult

__all__ = ["show_answers"]

_NAME: Final = 32
_SHORT_NAME: Final = 18
"""Where the rest needs room."""
_PLACE: Final = "x, y  width × height"


def show_answers(results: Iterable[PictureResult]) -> None:
    """A row a prediction; the picture's name and time stand in its first row."""
    answers = [(one, one.outcome) for one in results if isinstance(one.outcome, Answer)]
    heading = _heading([answer for _, answer in answers])
    is_narrow = all(_is_narrow(answer) for _, answer in answers)
    longest, whole = (_NAME, ["image", heading]) if is_narrow else (_SHORT_NAME, ["image"])
    made = table("image", "label", "score", heading, "ms", right=("score", "ms"), whole=whole)
    for one, answer in answers:
        name, time = cell(_shortened(one.source.name, longest)), f"{one.total_ms:.1f}"
        for row in _rows(answer):
            made.add_row(name, *row, time)
            name = time = ""
    console().print(made)


def _heading(answers: Sequence[Answer]) -> str:
    """What stands over the details."""
    predictions = [prediction for answer in answers for prediction in answer.predictions]
    if any(box_of(prediction) for prediction in predictions):
        return _PLACE
    return "area" if predictions and all(isinstance(one, Segmentation) for one in predictions) else ""


def _is_narrow(answer: Answer) -> bool:
    """Whether each detail is a bar or a place."""
    lines = [line for prediction in answer.predictions for line in told(prediction, answer)]
    return all(len(line.details) <= 1 and not line.depth for line in lines)


def _rows(answer: Answer) -> Iterator[tuple[str, str, str]]:
    if not answer.predictions:
        yield "[dim]nothing[/]", "", ""
    for prediction in answer.predictions:
        for line in told(prediction, answer):
            yield _label(line), "" if line.score is None else f"{line.score:.3f}", _details(prediction, line)


def _label(line: Told) -> str:
    return f"{'  ' * line.depth}{cell(line.name)}"


def _details(prediction: object, line: Told) -> str:
    style = "green" if isinstance(prediction, Classification) else "none"
    return "\n".join(f"[{style}]{cell(each)}[/]" for each in line.details)


def _shortened(name: str, longest: int) -> str:
    """A name that fits a column: of a long path the end."""
    return name if len(name) <= longest else "…" + name[1 - longest :]
