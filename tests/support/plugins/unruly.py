"""A backend that does what a picture's colour tells it: the ways in which real ones fail, on cue.

It runs in worker processes; the model file is any file, its text being cues for loading.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

import numpy as np

from agent.inference.runtime.base import Backend, TensorInfo
from agent.inference.runtime.errors import ModelError

CUES = {
    "answer": (128, 128, 128),
    "crash": (0, 0, 255),
    "hang": (0, 255, 0),
    "raise": (255, 0, 0),
    "print": (255, 255, 0),
    "exit": (255, 0, 255),
    "slow": (0, 255, 255),
    "hungry": (0, 0, 0),
    "orphan": (255, 255, 255),
}
"""Cue → colour, BGR."""


class Unruly(Backend):
    name = "unruly"
    inputs = (TensorInfo("image", (1, 8, 8, 3), "uint8"),)
    outputs = (TensorInfo("scores", (1, 3), "float32"),)

    @classmethod
    def version(cls):
        return "1"

    @classmethod
    def accepts(cls, path):
        return path.endswith(".unruly")

    def __init__(self, path, threads, accelerator, options):
        with open(path, encoding="utf-8") as file:
            cues = file.read()
        if "print" in cues:
            print("the model says hello on standard output " * 200, flush=True)
        if "broken" in cues:
            raise ModelError("model-broken", "the file is broken", "make it anew")
        if "linger" in cues:
            time.sleep(30)
        _, _, gate = cues.partition("gate ")
        if "die" in cues or (gate and os.path.exists(gate)):
            sys.stderr.write("the runtime gave up\n")
            os.abort()
        self.slow_s = float(options.get("slow_s", 0.5))
        self.every_s = float(options.get("every_s", 0.0))

    def run(self, arrays):
        # OpenCV gives RGB to networks that do not say otherwise.
        red, green, blue = (float(value) for value in arrays[0][0].reshape(-1, 3).mean(axis=0))
        cue = min(CUES, key=lambda name: sum(abs(a - b) for a, b in zip(CUES[name], (blue, green, red), strict=True)))
        time.sleep(self.every_s)
        self.warm = getattr(self, "warm", False)
        if self.warm:
            self.act(cue)
        self.warm = True
        return [np.array([[0.1, 0.7, 0.2]], np.float32)]

    def act(self, cue):  # noqa: C901 one branch a cue
        if cue == "crash":
            ctypes.string_at(0)
        elif cue == "hang":
            while True:
                time.sleep(60)
        elif cue == "raise":
            raise RuntimeError("the network did not like it")
        elif cue == "print":
            print("x" * 300_000, flush=True)
        elif cue == "exit":
            os._exit(3)
        elif cue == "slow":
            time.sleep(self.slow_s)
        elif cue == "orphan":
            # The child keeps all that it inherits: standard error and the socket.
            if os.fork() == 0:
                time.sleep(60)
            os._exit(4)
        elif cue == "hungry":
            bytearray(1 << 40)
        elif cue == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
