"""What a model says of a picture, as the interface's response.

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

__all__ = ["NO_VERDICT", "response"]

_proto = messages("lookout")
_DIGITS = 4
NO_VERDICT: Final = "name its normal classes in [anomaly] of its manifest, or take one that finds anomalies or segments"
"""What to do about a model that judges nothing."""


def response(answer: Answer, place: Any = None) -> Any:
    """The response to a request; its mask is at ``place``, a handle, where there is one.

    Raises ``ModelRefusedError`` (``no-verdict``) where the model judges nothing.
    """
    verdict = next((one for one in answer.predictions if isinstance(one, Anomaly)), None)
    if verdict is None:
        raise ModelRefusedError("the model says nothing of anomalies", code="no-verdict", hint=NO_VERDICT)
    # Filled in place: a message that is given to another one is copied, and a mask has megabytes.
    made = _proto.DetectAnomaliesResponse()
    result = made.detect_anomaly_result
    threshold = 0.0 if verdict.threshold is None else verdict.threshold
    result.is_anomalous = round(verdict.score, _DIGITS) >= round(threshold, _DIGITS)
    result.confidence = min(max(_confidence(answer, verdict, anomalous=result.is_anomalous), 0.0), 1.0)
    result.anomaly_score, result.anomaly_threshold = verdict.score, threshold
    if answer.painting is not None:
        _paint(result, answer, answer.painting, place)
    return made


def _confidence(answer: Answer, verdict: Anomaly, *, anomalous: bool) -> float:
    if not anomalous:
        return 1 - verdict.score
    areas = [one for one in answer.predictions if isinstance(one, Segmentation)]
    if not areas or any(isinstance(one, Classification) for one in answer.predictions):
        return verdict.score
    painted = {one.name for one in answer.painting.classes[1:]} if answer.painting else set()
    scores = [one.score for one in areas if one.label in painted and one.score is not None]
    return max(scores, default=1.0)


def _paint(result: Any, answer: Answer, painting: Painting, place: Any) -> None:
    mask = result.anomaly_mask
    mask.width, mask.height = answer.width, answer.height
    if place is None:
        mask.byte_data = painting.data
    else:
        told = mask.shared_memory_handle
        told.name, told.size, told.offset = place.name, place.size, place.offset
    for one in painting.classes:
        anomaly = result.anomalies.add(name=one.name)
        anomaly.pixel_anomaly.total_percentage_area = one.area
        anomaly.pixel_anomaly.hex_color = one.color
