"""The pictures that ship, and the ones that only calibrate and measure the classifier.

No picture of ``HELD_BACK`` takes part in calibration; what int8 answers to them was first seen when the recipe stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sample_models.archives import from_wheel

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One picture inside a package."""

    package: str
    path: str

    @property
    def name(self) -> str:
        """Package and file, for the report."""
        return f"{self.package.replace('_', '-')}: {self.path.rpartition('/')[2]}"

    def load(self, wheels: Path) -> Pixels:
        """RGB pixels."""
        data = np.frombuffer(from_wheel(wheels, self.package, self.path), np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if decoded is None:
            raise ValueError(f"{self.path} is no picture")
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _skimage(*names: str) -> list[Picture]:
    return [Picture("scikit_image", f"skimage/data/{name}") for name in names]


def _foolbox(*names: str) -> list[Picture]:
    return [Picture("foolbox", f"foolbox/data/imagenet_{name}.jpg") for name in names]


def _others(*paths: str) -> list[Picture]:
    packages = {"sklearn": "scikit_learn"}
    return [Picture(packages.get(root, root), path) for path in paths for root in (path.partition("/")[0],)]


SHIPPED = _skimage("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")

HELD_BACK = [
    *_skimage("astronaut.png", "coffee.png", "rocket.jpg"),
    *_foolbox("00_243", "03_990", "06_609", "09_455", "12_741", "15_99", "18_317"),
    *_others(
        "gradio/media_assets/images/lion.jpg",
        "gradio/test_data/cheetah2.jpg",
        "imgaug/quokka.jpg",
        "sklearn/datasets/images/flower.jpg",
        "ultralytics/assets/bus.jpg",
    ),
]

CALIBRATION = [
    *_skimage("brick.png", "camera.png", "chelsea.png", "coins.png", "grass.png", "gravel.png"),
    *_skimage("hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg"),
    *_foolbox("01_559", "02_438", "04_949", "05_853", "07_609", "08_915", "10_541"),
    *_foolbox("11_630", "13_471", "14_129", "16_251", "17_22", "19_305"),
    *_others(
        "gradio/media_assets/images/cheetah.jpg",
        "gradio/media_assets/images/cheetah1.jpg",
        "gradio/media_assets/images/groot.jpeg",
        "gradio/media_assets/images/tower.jpg",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
        "sklearn/datasets/images/china.jpg",
        "ultralytics/assets/zidane.jpg",
    ),
]


def write_samples(wheels: Path, folder: Path) -> list[Path]:
    """Write the pictures that ship as JPEG (quality 90, size as it is: no edge is longer than 640)."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for picture in SHIPPED:
        path = folder / (Path(picture.path).stem + ".jpg")
        pixels = cv2.cvtColor(picture.load(wheels), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])
        written.append(path)
    return written


@dataclass(frozen=True)
class Crops:
    """How crops are drawn: so many of each picture, at least this share of its area, colours shaken or not."""

    each: int
    smallest: float
    shaken: bool
    seed: int

    def draw(self, pictures: list[Picture], wheels: Path, size: int) -> list[tuple[Picture, Pixels]]:
        """Square crops of the pictures, always the same ones."""
        random = np.random.default_rng(self.seed)
        drawn = []
        for picture in sorted(pictures, key=lambda each: each.name):
            pixels = picture.load(wheels)
            drawn += [(picture, self._one(pixels, size, random)) for _ in range(self.each)]
        return drawn

    def _one(self, pixels: Pixels, size: int, random: np.random.Generator) -> Pixels:
        part = _part(pixels, self.smallest, random)
        if random.random() < 1 / 2:
            part = part[:, ::-1]
        smaller = min(part.shape[:2]) > size
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        resized: Any = cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=how)
        return _shake(resized, random) if self.shaken else np.asarray(resized, np.uint8)


def _part(pixels: Pixels, smallest: float, random: np.random.Generator) -> Pixels:
    """A rectangle with ``smallest`` to all of the area and an aspect between 3:4 and 4:3, where that fits."""
    height, width = pixels.shape[:2]
    for _ in range(50):
        area = random.uniform(smallest, 1) * height * width
        aspect = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = int((area * aspect) ** 0.5), int((area / aspect) ** 0.5)
        if wide <= width and high <= height:
            left, top = random.integers(0, width - wide + 1), random.integers(0, height - high + 1)
            return pixels[top : top + high, left : left + wide]
    return pixels


def _shake(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """Other contrast, brightness and saturation."""
    shaken = pixels.astype(np.float64) * random.uniform(0.6, 1.4) + random.uniform(-30, 30)
    grey = shaken.mean(axis=2, keepdims=True)
    shaken = grey + (shaken - grey) * random.uniform(0.5, 1.5)
    return np.asarray(shaken.clip(0, 255), np.uint8)
