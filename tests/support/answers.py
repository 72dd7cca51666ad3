"""Predictions on their way from a task to the core, without a process between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from agent.inference.predictions import Prediction
from agent.inference.runtime import messages
from agent.inference.runtime.answers import WorkerAnswer
from agent.inference.values import AnswerMessage


def received(predictions: Sequence[dict[str, Any]], snapshot: bytes = b"") -> tuple[Prediction, ...]:
    """What the core makes of a task's predictions."""
    message = WorkerAnswer(list(predictions), {"infer": 1.0}, 640, 480, snapshot).message(7)
    (envelope,) = messages.MessageDecoder().feed(message)
    answer = msgspec.json.decode(envelope.text, type=AnswerMessage).answer(envelope.body)
    assert answer.snapshot == snapshot
    return answer.predictions
