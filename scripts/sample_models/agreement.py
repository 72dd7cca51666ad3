"""Does the int8 classifier say what the float one says?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from sample_models.pictures import Picture
from sample_models.quantisation import Floats

CONFIDENT = 0.5


@dataclass(frozen=True)
class Agreement:
    """How often two models' first answers are the same, over crops of some pictures."""

    crops: int
    same: int
    confident: int
    confident_same: int
    score_difference: float
    by_picture: dict[str, tuple[int, int, int]]

    @property
    def percent(self) -> float:
        """Agreement on confident crops."""
        return 100 * self.confident_same / self.confident


def scores(model: Path, inputs: list[Floats]) -> Floats:
    """What the model answers, one row for each input."""
    interpreter = Interpreter(str(model), num_threads=1)
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    leave = interpreter.get_output_details()[0]["index"]
    rows = []
    for each in inputs:
        interpreter.set_tensor(entry, each)
        interpreter.invoke()
        rows.append(interpreter.get_tensor(leave)[0].copy())
    return np.stack(rows)


def compare(pictures: list[Picture], truth: Floats, answers: Floats) -> Agreement:
    """Count where the first answers agree; ``pictures`` says which picture each row is of."""
    same = truth.argmax(axis=1) == answers.argmax(axis=1)
    confident = truth.max(axis=1) >= CONFIDENT
    rows = np.arange(len(truth))
    first = truth.argmax(axis=1)
    difference = np.abs(truth[rows, first] - answers[rows, first])[confident]
    return Agreement(
        crops=len(truth),
        same=int(same.sum()),
        confident=int(confident.sum()),
        confident_same=int((same & confident).sum()),
        score_difference=float(difference.mean()),
        by_picture=_by_picture(pictures, same, confident),
    )


def _by_picture(pictures: list[Picture], same: np.ndarray, confident: np.ndarray) -> dict[str, tuple[int, int, int]]:
    """For each picture: crops, confident ones, and those of them that agree."""
    names = np.array([picture.name for picture in pictures])
    counted = {}
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        counted[name] = (int(mine.sum()), int((mine & confident).sum()), int((mine & confident & same).sum()))
    return counted
