"""Whether two answers agree: what Verge published, and what the reference loop found. Pure."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

Prediction = dict[str, Any]

IOU = 0.98
MASK_IOU = 0.95
PARTNER = 0.5
SCORE = 0.02
CERTAIN = 0.5
POINT = 0.01
COSINE = 0.999
CHARACTERS = 0.95
ABSOLUTE = 2  # runs of COCO that are no differences, after the first


def differs(expected: list[Prediction], found: list[Prediction], within: dict[str, float] | None = None) -> str:
    """What is not as the reference has it, in a clause; "" where both agree."""
    kinds = {kind(each) for each in found}
    wanted = {kind(each) for each in expected}
    if found and wanted and not wanted & kinds:
        return f"{', '.join(sorted(kinds))} instead of {', '.join(sorted(wanted))}"
    compare = {
        "classification": _classes,
        "embedding": _vectors,
        "segmentation": _masks,
        "keypoints": _points,
        "text": _texts,
    }.get(next(iter(wanted), ""), _boxes)
    return _boxes(expected, found, **(within or {})) if compare is _boxes else compare(expected, found)


def read_otherwise(expected: list[Prediction], found: list[Prediction]) -> bool:
    """Whether a picture's other mean or colours would explain it: nothing, or other numbers of the same whole kind."""
    published = {kind(each) for each in found}
    whole = {"classification", "embedding", "segmentation"}
    return not found or published == {kind(each) for each in expected} <= whole


def kind(one: Prediction) -> str:
    """Which kind of prediction a dictionary is, by the key that only that kind has."""
    if "kind" in one:
        return str(one["kind"])
    keys = ("text", "vector", "anomalous", "box", "mask", "keypoints", "map", "dtype")
    names = ("text", "embedding", "anomaly", "detection", "segmentation", "keypoints", "map", "tensor")
    return next((name for key, name in zip(keys, names, strict=True) if key in one), "classification")


def _classes(expected: list[Prediction], found: list[Prediction]) -> str:
    if not found:
        return "nothing was found"
    best, mine = expected[0], found[0]
    if best["label_id"] != mine.get("label_id"):
        return f"{mine.get('label')} {mine['score']:.3f} instead of {best['label']} {best['score']:.3f}"
    if abs(best["score"] - mine["score"]) > SCORE:
        return f"{mine['score']:.3f} instead of {best['score']:.3f}"
    return ""


def _vectors(expected: list[Prediction], found: list[Prediction]) -> str:
    if not found:
        return "no vector"
    one, other = vector(expected[0]), vector(found[0])
    if one.shape != other.shape:
        return f"{len(other)} numbers instead of {len(one)}"
    cosine = float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
    return "" if cosine >= COSINE else f"a cosine of {cosine:.4f}"


def _masks(expected: list[Prediction], found: list[Prediction]) -> str:
    best = max((mask_iou(expected[0]["mask"], each["mask"]) for each in found if "mask" in each), default=0.0)
    return "" if best >= MASK_IOU else f"a mask with an IoU of {best:.3f}"


def _points(expected: list[Prediction], found: list[Prediction]) -> str:
    one = expected[0]
    mine = next((each for each in found if "keypoints" in each), None)
    if mine is None:
        return "no key points"
    if "score" in one and "score" in mine and abs(one["score"] - mine["score"]) > SCORE:
        return f"a score of {mine['score']:.3f} instead of {one['score']:.3f}"
    return _far(one, mine, _reach(one["keypoints"]))


def _texts(expected: list[Prediction], found: list[Prediction]) -> str:
    wanted, mine = ("\n".join(each.get("text", "") for each in lines) for lines in (expected, found))
    share = 1 - distance(wanted, mine) / max(len(wanted), 1)
    return "" if share >= CHARACTERS else f"{share:.0%} of the characters: {mine[:60]!r}"


def _boxes(
    expected: list[Prediction],
    found: list[Prediction],
    score: float = SCORE,
    iou: float = IOU,
    points: float = POINT,
) -> str:
    """Each certain box has its partner; where both cut at thresholds of their own, the uncertain may be missing."""
    left = [each for each in found if "box" in each]
    for one in sorted(expected, key=lambda each: -each["score"]):
        partner = max(left, key=lambda each: box_iou(one["box"], each["box"]), default=None)
        if partner is None or box_iou(one["box"], partner["box"]) < PARTNER:
            if one["score"] > CERTAIN + score:
                return f"{one.get('label', 'a box')} {one['score']:.3f} is missing"
            continue
        left.remove(partner)
        told = _unlike(one, partner, score, iou) or _places(one, partner, points)
        if told:
            return told
    extra = next((each for each in left if each["score"] > CERTAIN + score), None)
    return f"{extra.get('label', 'a box')} {extra['score']:.3f} is too much" if extra else ""


def _unlike(one: Prediction, other: Prediction, score: float, iou: float) -> str:
    shared = box_iou(one["box"], other["box"])
    if shared < iou:
        return f"a box with an IoU of {shared:.3f}"
    if abs(one["score"] - other["score"]) > score:
        return f"a score of {other['score']:.3f} instead of {one['score']:.3f}"
    if "label_id" in one and "label_id" in other and one["label_id"] != other["label_id"]:
        return f"{other.get('label')} instead of {one.get('label')}"
    if "mask" in one:
        covered = mask_iou(one["mask"], other["mask"]) if "mask" in other else 0.0
        if covered < MASK_IOU:
            return f"a mask with an IoU of {covered:.3f}"
    return ""


def _places(one: Prediction, other: Prediction, points: float) -> str:
    reach = max(one["box"]["width"], one["box"]["height"])
    return _far(one, other, reach, points) if "keypoints" in one else ""


def _far(one: Prediction, other: Prediction, reach: float, share: float = POINT) -> str:
    places, mine = one["keypoints"], other.get("keypoints", [])
    if len(places) != len(mine):
        return f"{len(mine)} key points instead of {len(places)}"
    away = max(max(abs(a["x"] - b["x"]), abs(a["y"] - b["y"])) for a, b in zip(places, mine, strict=True))
    return "" if away <= share * reach else f"a key point {away / reach:.1%} of the box away"


def _reach(places: list[dict[str, float]]) -> float:
    return max(max(each[axis] for each in places) - min(each[axis] for each in places) for axis in ("x", "y"))


def vector(one: Prediction) -> Any:
    """An embedding's numbers: a list, or the bytes of an array in base64."""
    if "vector" in one:
        return np.array(one["vector"], dtype=float)
    return np.frombuffer(base64.b64decode(one["data"]), dtype=one["dtype"]).astype(float)


def box_iou(one: dict[str, float], other: dict[str, float]) -> float:
    """Intersection over union of two boxes in fractions."""
    width = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
    height = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum(each["width"] * each["height"] for each in (one, other))
    return shared / (areas - shared) if shared else 0.0


def mask_iou(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Intersection over union of two masks, at the first one's resolution."""
    mine, theirs = pixels(one), pixels(other)
    if mine.shape != theirs.shape:
        turned = cv2.resize(theirs.astype(np.float32), mine.shape[::-1], interpolation=cv2.INTER_LINEAR)
        theirs = turned.round() > 0
    together = int((mine | theirs).sum())
    return float((mine & theirs).sum() / together) if together else 1.0


def pixels(mask: dict[str, Any]) -> Any:
    """A mask as booleans: runs along rows as the references write them, or COCO's compressed runs down columns."""
    if "runs" in mask:
        return _spread(mask["runs"]).reshape(mask["height"], mask["width"])
    return _spread(_counts(mask["data"])).reshape(mask["width"], mask["height"]).T


def _spread(runs: list[int]) -> Any:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)


def _counts(text: str) -> list[int]:
    """COCO's string: five bits a character, the lowest first, the third last number added from the third run on."""
    counts: list[int] = []
    position = 0
    while position < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[position]) - 48
            value |= (bits & 0x1F) << shift
            more, shift, position = bool(bits & 0x20), shift + 5, position + 1
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > ABSOLUTE else value)
    return counts


def distance(one: str, other: str) -> int:
    """How many characters must be put in, taken out or changed."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]
