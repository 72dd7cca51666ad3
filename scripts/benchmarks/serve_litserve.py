"""LitServe with the agent's worker code behind it; runs in LitServe's own environment."""

from __future__ import annotations

import base64
import json
import os
import sys
from typing import Any

import litserve

from agent.inference.runtime.session import Answer, Session
from scripts.benchmarks import MODEL


class Classifier(litserve.LitAPI):
    """A base64 picture in JSON → predictions and times."""

    def setup(self, device: str) -> None:
        del device
        self.session = Session(json.loads(os.environ[MODEL]))

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["image"])

    def predict(self, x: bytes) -> Answer:
        return self.session.infer(x, "jpeg")

    def encode_response(self, output: Answer) -> dict[str, Any]:
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
