"""Packages that Lookout for Vision made: their ``manifest.json``, as what a ``manifest.toml`` would have said.

::

    manifest.json                       the graph, its stages, the classes
    <type of the stage>/                the network, compiled by SageMaker Neo; or model.onnx

The picture is shrunk by area to the stage's size; its pixels are brought to 0 … 1 and then, with ImageNet's mean and
standard deviation, to the network's numbers.  A stage has a head for the whole picture, one for its places, or both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent.errors import ConfigError
from agent.files import head

__all__ = ["FILE", "told"]

FILE: Final = "manifest.json"
_LARGEST: Final = 1 << 20
_GRAPH, _SINGLE = "model_graph", "single_stage_model_graph"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PIXEL: Final = 255.0
_ONNX: Final = "model.onnx"


def told(folder: Path) -> dict[str, Any] | None:
    """The fields of a manifest; None where the folder is no such package.

    Raises ``ConfigError`` (``package-unsupported``) for one whose network cannot be run as one.
    """
    try:
        content = json.loads(head(folder / FILE, _LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    graph = _table(content, _GRAPH)
    stages = graph.get("stages")
    if not isinstance(stages, list) or not stages:
        return None
    kind = graph.get("model_graph_type", _SINGLE)
    if kind != _SINGLE or len(stages) != 1:
        raise ConfigError(
            f"{folder / FILE} is a graph of {len(stages)} stages, of the type {str(kind)[:100]}",
            code="package-unsupported",
            hint="packages of one stage are run; join the stages in one ONNX file and write a manifest.toml",
            path="source",
        )
    stage = stages[0] if isinstance(stages[0], dict) else {}
    return {
        "file": _file(folder, content, stage),
        "input": _input(stage, _table(content, "dataset")),
        **_meaning(stage, graph),
    }


def _file(folder: Path, content: Mapping[str, Any], stage: Mapping[str, Any]) -> str:
    """Where the network is: named, in a folder called as the stage, or beside the manifest."""
    kind = _name(stage.get("type"))
    artifact = _name(stage.get("runtime_artifact") or content.get("runtime_artifact")) or _ONNX
    for place in (f"{kind}/{artifact}" if kind else artifact, artifact, kind):
        if place and (folder / place).exists():
            return place
    raise ConfigError(
        f"{folder} has neither a folder {kind or 'of its stage'} nor {artifact}",
        code="package-unsupported",
        hint="unpack the whole archive of the component",
        path="source",
    )


def _input(stage: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    sides = {
        side: next(
            (int(size) for of in (stage, dataset) if isinstance(size := of.get(f"image_{side}"), int | float)), 0
        )
        for side in ("width", "height")
    }
    unit = _PIXEL if stage.get("image_range_scale", True) else 1.0
    mean, std = (_MEAN, _STD) if stage.get("normalize", True) else ((0.0,), (1.0,))
    return {
        **{side: pixels for side, pixels in sides.items() if pixels},
        "layout": "NCHW", "color": "RGB", "resize": "stretch", "interpolation": "area",
        "mean": [round(each * unit, 6) for each in mean], "std": [round(each * unit, 6) for each in std],
    }  # fmt: skip


def _meaning(stage: Mapping[str, Any], graph: Mapping[str, Any]) -> dict[str, Any]:
    """The task, its options and the verdict."""
    whole, places = _table(graph, "image_level_classes"), _table(graph, "pixel_level_classes")
    has_places = bool(stage.get("segmentation_head_enabled", places))
    has_whole = bool(stage.get("classification_head_enabled", whole or not has_places))
    names, classes = _names(whole), _names(places)
    anomaly: dict[str, Any] = {}
    normal: list[str] = []
    if has_whole:
        normal += _chosen(names, stage.get("class_normal_ids", whole.get("normal_ids")))
        if isinstance(threshold := stage.get("threshold"), int | float) and 0 <= threshold <= 1:
            anomaly["threshold"] = float(threshold)
    if has_places:
        anomaly["classes"] = classes
        normal += _chosen(classes, stage.get("seg_normal_ids", places.get("normal_ids")))
    task = "inspection" if has_whole and has_places else "segmentation" if has_places else "image-classification"
    options = {"names": names} if has_whole and names else {}
    return {"task": task, "options": options, "anomaly": anomaly | {"normal": list(dict.fromkeys(normal))}}


def _table(of: Any, key: str) -> Mapping[str, Any]:
    value = of.get(key) if isinstance(of, dict) else None
    return value if isinstance(value, dict) else {}


def _names(of: Mapping[str, Any]) -> list[str]:
    names = of.get("names")
    return [str(name) for name in names] if isinstance(names, list) else []


def _chosen(names: Sequence[str], ids: Any) -> list[str]:
    listed = ids if isinstance(ids, list) else [ids]
    return [names[number] for number in listed if type(number) is int and 0 <= number < len(names)]


def _name(value: Any) -> str:
    """A single part of a path; empty for what is none."""
    return value if isinstance(value, str) and value not in {"", ".", ".."} and "/" not in value else ""
