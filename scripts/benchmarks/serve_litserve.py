"""LitServe with the agent's worker code behind it; runs in LitServe's own environment."""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any

import litserve
import numpy as np

from agent.inference.runtime.session import Session, WorkerAnswer
from scripts.benchmarks import MODEL


class Classifier(litserve.LitAPI):
    """A base64 picture in JSON → predictions and times; a base64 tensor → the network's output, the same way."""

    def setup(self, device: str) -> None:
        del device
        self.session = Session(json.loads(os.environ[MODEL]))

    def decode_request(self, request: dict[str, str | list[int]]) -> bytes | np.ndarray:
        if "tensor" in request:
            return np.frombuffer(base64.b64decode(request["tensor"]), np.float32).reshape(request["shape"])
        return base64.b64decode(request["image"])

    def predict(self, x: bytes | np.ndarray) -> WorkerAnswer | np.ndarray:
        if isinstance(x, np.ndarray):
            return self.session.backend.run([x])[0]
        return self.session.infer(x, "jpeg")

    def encode_response(self, output: WorkerAnswer | np.ndarray) -> dict[str, Any]:
        if isinstance(output, np.ndarray):
            return {"tensor": base64.b64encode(output.tobytes()).decode(), "shape": output.shape}
        return {
            "predictions": output.predictions, "timing_ms": output.timing_ms,
            "width": output.width, "height": output.height,
        }  # fmt: skip


if __name__ == "__main__":
    server = litserve.LitServer(Classifier(), accelerator="cpu", workers_per_device=int(sys.argv[2]))
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="warning", access_log=False,
        generate_client_file=False,
    )  # fmt: skip
