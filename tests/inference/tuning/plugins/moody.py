"""A backend whose mood hangs on how it is run: the model file's lines are ``accelerator threads: mood``.

It runs in worker processes.  A mood is one of ``unruly``'s cues, ``gone`` (the accelerator is not there), ``die`` or
``linger`` (while loading), ``elsewhere`` (it runs on the cpu, whatever it was asked for), ``disagree``, or so many
milliseconds an answer takes.
"""

from __future__ import annotations

import os
import time

import numpy as np
from unruly import CUES, Unruly

from agent.inference.runtime.errors import UnavailableError


class Moody(Unruly):
    name = "moody"

    def __init__(self, path, threads, accelerator, options):
        with open(path, encoding="utf-8") as file:
            moods = dict(line.split(": ") for line in file.read().splitlines())
        self.mood = moods.get(f"{accelerator} {threads}", "0")
        self.answers = 0
        self.accelerator = "cpu" if self.mood == "elsewhere" or accelerator == "auto" else accelerator
        if self.mood == "gone":
            raise UnavailableError("accelerator-unavailable", f"there is no {accelerator}", "plug it in")
        if self.mood == "die":
            os.abort()
        if self.mood == "linger":
            time.sleep(60)

    def run(self, arrays):
        self.answers += 1
        # The first one is the warm-up, which is a part of loading.
        if self.mood in CUES and self.answers > 1:
            self.act(self.mood)
        if self.mood.isdigit():
            time.sleep(int(self.mood) / 1000)
        scores = [0.7, 0.1, 0.2] if self.mood == "disagree" else [0.1, 0.7, 0.2]
        return [np.array([scores], np.float32)]
