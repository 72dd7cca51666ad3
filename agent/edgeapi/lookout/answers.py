"""What a model says of a picture, as the interface's result.

A picture is anomalous when its score reaches the threshold, both rounded to 4 digits; the confidence is the score of
one that is and the rest of one that is not.  Where areas decide, how large they are is no measure of how sure the model
is: the confidence is that of its surest anomaly, 1 where it gives no probabilities.
(Lookout for Vision Developer Guide, "DetectAnomalyResult".)
"""

from __future__ import annotations

from typing import Any, Final

from agent.edgeapi.protos import messages
from agent.errors import ModelRefusedError
from agent.inference.predictions import Anomaly, Classification, Segmentation
from agent.inference.values import Answer, Painting

__all__ = ["NO_VERDICT", "result"]

_proto = messages("lookout")
_DIGITS = 4
NO_VERDICT: Final = "name its normal classes in [anomaly] of its manifest, or take one that finds anomalies or segments"
"""What to do about a model that judges nothing."""


def result(answer: Answer, place: Any = None) -> Any:
    """The result; its mask is at ``place``, a handle, where there is one.

    Raises ``ModelRefusedError`` (``no-verdict``) where the model judges nothing.
    """
    verdict = next((one for one in answer.predictions if isinstance(one, Anomaly)), None)
    if verdict is None:
        raise ModelRefusedError("the model says nothing of anomalies", code="no-verdict", hint=NO_VERDICT)
    threshold = 0.0 if verdict.threshold is None else verdict.threshold
    anomalous = round(verdict.score, _DIGITS) >= round(threshold, _DIGITS)
    return _proto.DetectAnomalyResult(
        is_anomalous=anomalous,
        confidence=min(max(_confidence(answer, verdict, anomalous=anomalous), 0.0), 1.0),
        anomaly_score=verdict.score,
        anomaly_threshold=threshold,
        **({} if answer.painting is None else _mask(answer, answer.painting, place)),
    )


def _confidence(answer: Answer, verdict: Anomaly, *, anomalous: bool) -> float:
    if not anomalous:
        return 1 - verdict.score
    areas = [one for one in answer.predictions if isinstance(one, Segmentation)]
    if not areas or any(isinstance(one, Classification) for one in answer.predictions):
        return verdict.score
    painted = {one.name for one in answer.painting.classes[1:]} if answer.painting else set()
    scores = [one.score for one in areas if one.label in painted and one.score is not None]
    return max(scores, default=1.0)


def _mask(answer: Answer, painting: Painting, place: Any) -> dict[str, Any]:
    data = {"byte_data": painting.data} if place is None else {"shared_memory_handle": _handle(place)}
    return {
        "anomaly_mask": _proto.Bitmap(width=answer.width, height=answer.height, **data),
        "anomalies": [
            _proto.Anomaly(
                name=one.name,
                pixel_anomaly=_proto.PixelAnomaly(total_percentage_area=one.area, hex_color=one.color),
            )
            for one in painting.classes
        ],
    }


def _handle(place: Any) -> Any:
    return _proto.SharedMemoryHandle(name=place.name, size=place.size, offset=place.offset)
