"""What the samples' README says of their hashes, of agreement, and of what the models answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from sample_models import boxes, classifier, detector, inspector
from sample_models.agreement import Agreement, scores
from sample_models.inspector import Quality
from sample_models.pictures import SHIPPED, Picture, Pixels
from sample_models.quantisation import Floats, normalised

TEMPLATES = Path(__file__).parent / "templates"
DETECTION_THRESHOLD = 0.3

Row = tuple[str, ...]


def sha256(path: Path) -> str:
    """The file's digest in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(samples: Path, agreement: Agreement, quality: Quality) -> list[Path]:
    """Write README.md, and AGREEMENT.md beside the classifier."""
    readme = samples / "README.md"
    readme.write_text(
        _template("README.md").substitute(
            files=_files(samples),
            classifications=_table(("picture", "five best"), _classifications(samples)),
            detections=_table(("picture", "boxes of at least 0.3: top, left, bottom, right"), _detections(samples)),
            verdicts=_table(("part", "verdict"), _verdicts(samples)),
            **_figures(agreement),
            **_quality(quality),
        )
    )
    beside = samples / "models/classifier/AGREEMENT.md"
    rows = [
        (name, str(crops), str(confident), str(same)) for name, (crops, confident, same) in agreement.by_picture.items()
    ]
    table = _table(("held-back picture", "crops", "confident", "of these the same"), rows)
    beside.write_text(_template("AGREEMENT.md").substitute(pictures=table, **_figures(agreement)))
    return [readme, beside]


def _template(name: str) -> Template:
    return Template((TEMPLATES / name).read_text())


def _figures(agreement: Agreement) -> dict[str, str]:
    return {
        "percent": f"{agreement.percent:.1f}",
        "confident": str(agreement.confident),
        "confident_same": str(agreement.confident_same),
        "crops": str(agreement.crops),
        "percent_all": f"{100 * agreement.same / agreement.crops:.1f}",
        "difference": f"{agreement.score_difference:.3f}",
    }


def _quality(quality: Quality) -> dict[str, str]:
    return {
        "parts": str(quality.parts),
        "auroc": f"{quality.auroc:.4f}",
        "accuracy": f"{100 * quality.accuracy:.1f}",
        "missed": str(quality.missed),
        "false_alarms": str(quality.false_alarms),
        "pixel_iou": f"{quality.pixel_iou:.3f}",
    }


def _files(samples: Path) -> str:
    """Every file but the two that are written here, with size and digest."""
    listed = sorted(path for path in samples.rglob("*") if path.is_file() and path.suffix not in {".md", ".py", ".pyc"})
    rows = [
        (f"`{path.relative_to(samples).as_posix()}`", f"{path.stat().st_size:,}", f"`{sha256(path)}`")
        for path in listed
    ]
    return _table(("file", "bytes", "sha256"), rows)


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _input(samples: Path, picture: Picture, size: int, mean: float, std: float) -> Floats:
    """The shipped JPEG, stretched to the model's size."""
    read: Any = cv2.imread(str(samples / "images" / (Path(picture.path).stem + ".jpg")))
    pixels: Pixels = np.asarray(cv2.cvtColor(cv2.resize(read, (size, size)), cv2.COLOR_BGR2RGB), np.uint8)
    return normalised(pixels, mean, std)


def _classifications(samples: Path) -> list[Row]:
    folder = samples / "models/classifier"
    names = (folder / "labels.txt").read_text().splitlines()
    inputs = [_input(samples, each, classifier.SIZE, classifier.MEAN, classifier.STD) for each in SHIPPED]
    rows: list[Row] = []
    for picture, row in zip(SHIPPED, scores(folder / "model.tflite", inputs), strict=True):
        best = [f"{names[index]} {row[index]:.2f}" for index in row.argsort()[::-1][:5]]
        rows.append((Path(picture.path).stem, ", ".join(best)))
    return rows


def _detections(samples: Path) -> list[Row]:
    folder = samples / "models/detector"
    names = (folder / "labels.txt").read_text().splitlines()
    interpreter = Interpreter(str(folder / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    rows: list[Row] = []
    for picture in SHIPPED:
        interpreter.set_tensor(
            interpreter.get_input_details()[0]["index"],
            _input(samples, picture, detector.SIZE, detector.MEAN, detector.STD),
        )
        interpreter.invoke()
        found = boxes.decode(*_raw_outputs(interpreter), DETECTION_THRESHOLD)
        said = [
            f"{names[one.label_id]} {one.score:.2f} ({', '.join(f'{edge:.2f}' for edge in one.box)})" for one in found
        ]
        rows.append((Path(picture.path).stem, "; ".join(said) or "none"))
    return rows


def _verdicts(samples: Path) -> list[Row]:
    rows: list[Row] = []
    for path in sorted((samples / "parts").glob("*.jpg")):
        score = inspector.answer(samples / "models/inspector/model.tflite", path)
        rows.append((path.stem, f"{'anomaly' if score >= inspector.THRESHOLD else 'normal'} {score:.2f}"))
    return rows


def _raw_outputs(interpreter: Any) -> tuple[Floats, Floats]:
    """Box encodings, class predictions."""
    outputs = {detail["shape"][-1]: detail["index"] for detail in interpreter.get_output_details()}
    encodings = interpreter.get_tensor(outputs.pop(4))[0]
    (predictions,) = outputs.values()
    return encodings, interpreter.get_tensor(predictions)[0]
