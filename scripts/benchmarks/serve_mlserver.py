"""MLServer with the agent's worker code behind it; runs in MLServer's own environment."""

from __future__ import annotations

import json
import os

from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from agent.inference.runtime.session import Session
from scripts.benchmarks import MODEL


class Classifier(MLModel):
    """A base64 picture as a BYTES input → predictions and times, as JSON in a BYTES output; FP32 → the network's."""

    async def load(self) -> bool:
        self.session = Session(json.loads(os.environ[MODEL]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        if payload.inputs[0].datatype == "FP32":
            (output, *_) = self.session.backend.run([NumpyCodec.decode_input(payload.inputs[0])])
            return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("output", output)])
        (picture,) = Base64Codec.decode_input(payload.inputs[0])
        answer = self.session.infer(picture, "jpeg")
        told = {
            "predictions": answer.predictions, "timing_ms": answer.timing_ms,
            "width": answer.width, "height": answer.height,
        }  # fmt: skip
        return InferenceResponse(
            model_name=self.name, outputs=[StringCodec.encode_output("answer", [json.dumps(told)], use_bytes=False)]
        )
