"""The pictures that models are shown: those that ship with Verge, those of packages, crops of both, and drawn ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from scripts.model_checks.packages import Package, fetched
from scripts.model_checks.references.network import Array

SAMPLES = Path(__file__).parents[2] / "agent" / "samples" / "images"
ULTRALYTICS = Package("pypi", "ultralytics", "8.3.0")
SKIMAGE = Package("pypi", "scikit-image", "0.26.0")
LINES = (
    "INVOICE 2024-0817",
    "Customer: North Harbour Ltd",
    "Twelve crates of green apples",
    "Total weight 348 kg, net 320 kg",
    "Delivered on 14 March at 09:35",
    "Thank you for your order",
)
INK = (20, 20, 20)


class Pictures:
    """Pictures by name, as files made when first asked for: ``page``, ``page-90`` turned, ``face@64x64`` resized."""

    def __init__(self, folder: Path, cellar: Path) -> None:
        self._folder = folder
        self._cellar = cellar
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Where the picture is; the samples stay the JPEGs that they are."""
        sample = SAMPLES / f"{name}.jpg"
        if sample.exists():
            return sample
        made = self._folder / f"{name}.png"
        if not made.exists():
            cv2.imwrite(str(made), np.ascontiguousarray(self._made(name)))
        return made

    def _made(self, name: str) -> Array:
        if name in MAKERS:
            return MAKERS[name](self)
        base, _, size = name.partition("@")
        if size:
            width, height = (int(each) for each in size.split("x"))
            return cv2.resize(self.pixels(base), (width, height), interpolation=cv2.INTER_AREA)
        base, _, degrees = name.partition("-")
        return np.rot90(self.pixels(base), -int(degrees) // 90)

    def pixels(self, name: str) -> Array:
        """The picture as BGR."""
        return cv2.imread(str(self.path(name)), cv2.IMREAD_COLOR)

    def packed(self, package: Package, file: str) -> Array:
        """A picture of a package."""
        return cv2.imread(str(fetched(package, self._cellar) / file), cv2.IMREAD_COLOR)


def _pan(pictures: Pictures) -> Array:
    """A wide frame with a small person, which loses its shape when stretched."""
    frame = np.full((400, 1200, 3), 114, np.uint8)
    frame[:, 400:800] = cv2.resize(pictures.pixels("astronaut"), (400, 400), interpolation=cv2.INTER_AREA)
    return frame


@cache
def _page() -> Array:
    paper = np.full((720, 960, 3), 255, np.uint8)
    for row, line in enumerate(LINES):
        cv2.putText(paper, line, (60, 100 + row * 95), cv2.FONT_HERSHEY_SIMPLEX, 1.4, INK, 3, cv2.LINE_AA)
    return paper


def _isbn() -> Array:
    """The corner of a book's back: a label with an EAN-13 of 9783161484100."""
    bits = "0001101001100100100110111101010001101100010101111011101101101110001011"
    left = [bits[place : place + 7] for place in range(0, len(bits), 7)]
    right = ["".join("10"[int(bit)] for bit in code) for code in left]
    mirrored = [code[::-1] for code in right]
    digits = [int(each) for each in "783161484100"]
    head = "".join((left if side == "L" else mirrored)[digit] for side, digit in zip("LGGLGL", digits, strict=False))
    bars = f"101{head}01010{''.join(right[digit] for digit in digits[6:])}101"
    back = np.full((1200, 900, 3), 150, np.uint8)
    cv2.rectangle(back, (480, 840), (900, 1100), (255, 255, 255), -1)
    for place, bar in enumerate(bars):
        if bar == "1":
            cv2.rectangle(back, (500 + place * 4, 900), (503 + place * 4, 1040), (0, 0, 0), -1)
    for text, corner, size in (("ISBN 978-3-16-148410-0", (500, 885), 1.03), ("9 783161 484100", (500, 1075), 1.2)):
        cv2.putText(back, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 2, cv2.LINE_AA)
    return back


def _passport(pictures: Pictures) -> Array:
    card = np.full((620, 880, 3), (225, 235, 230), np.uint8)
    card[60:360, 40:280] = cv2.resize(pictures.pixels("face"), (240, 300))
    for row, text in enumerate(("PASSPORT", "Surname: HARBOUR", "Given names: NORA", "Nationality: UTOPIAN")):
        cv2.putText(card, text, (320, 110 + row * 65), cv2.FONT_HERSHEY_SIMPLEX, 0.9, INK, 2, cv2.LINE_AA)
    for row, text in enumerate(
        ("P<UTOHARBOUR<<NORA<<<<<<<<<<<<<<<<<<<<<<<<<<<", "L898902C36UTO7408122F1204159ZE184226B<<<<<10")
    ):
        for column, letter in enumerate(text):
            place = (30 + column * 19, 500 + row * 60)
            cv2.putText(card, letter, place, cv2.FONT_HERSHEY_PLAIN, 1.7, INK, 2, cv2.LINE_AA)
    return card


def _glyphs(pictures: Pictures) -> Array:
    """Characters on a scene, to be clicked in order."""
    scene = cv2.resize(pictures.pixels("coffee"), (416, 278), interpolation=cv2.INTER_AREA)
    for letter, place in (("A", (40, 90)), ("R", (150, 210)), ("K", (250, 80)), ("7", (330, 220))):
        cv2.putText(scene, letter, place, cv2.FONT_HERSHEY_DUPLEX, 2.0, (250, 250, 250), 8, cv2.LINE_AA)
        cv2.putText(scene, letter, place, cv2.FONT_HERSHEY_DUPLEX, 2.0, (160, 30, 30), 4, cv2.LINE_AA)
    return scene


def _plate(pictures: Pictures) -> Array:
    """A blue plate, as cars in China have it."""
    scene = cv2.resize(pictures.pixels("coffee"), (640, 448), interpolation=cv2.INTER_AREA)
    cv2.rectangle(scene, (180, 200), (380, 264), (150, 60, 10), -1)
    cv2.rectangle(scene, (183, 203), (377, 261), (255, 255, 255), 1)
    cv2.putText(scene, "A 12345", (192, 249), cv2.FONT_HERSHEY_SIMPLEX, 1.42, (255, 255, 255), 3, cv2.LINE_AA)
    return scene


def _puzzle(pictures: Pictures) -> Array:
    """A slider captcha: a dark gap in the scene, and its piece at the left."""
    scene = cv2.resize(pictures.pixels("coffee"), (672, 390))
    piece = np.zeros(scene.shape[:2], np.uint8)
    cv2.rectangle(piece, (400, 150), (490, 240), 1, -1)
    cv2.circle(piece, (445, 150), 18, 1, -1)
    cv2.circle(piece, (490, 195), 18, 1, -1)
    cut = scene[120:250, 390:515].copy()
    shape = piece[120:250, 390:515] > 0
    scene[piece > 0] = scene[piece > 0] // 3
    edge = cv2.morphologyEx(piece, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    scene[edge] = 235
    scene[120:250, 10:135][shape] = cut[shape]
    rim = edge[120:250, 390:515]
    scene[120:250, 10:135][rim] = 235
    return scene


MAKERS: dict[str, Callable[[Pictures], Array]] = {
    "bus": lambda pictures: pictures.packed(ULTRALYTICS, "ultralytics/assets/bus.jpg"),
    "zidane": lambda pictures: pictures.packed(ULTRALYTICS, "ultralytics/assets/zidane.jpg"),
    "skimage-page": lambda pictures: pictures.packed(SKIMAGE, "skimage/data/page.png"),
    "face": lambda pictures: pictures.pixels("astronaut")[48:204, 147:303],
    "head": lambda pictures: pictures.pixels("astronaut")[70:190, 155:275],
    "eye": lambda pictures: pictures.pixels("astronaut")[77:123, 182:228],
    "hand": lambda pictures: pictures.pixels("zidane")[340:530, 950:1140],
    "pan": _pan,
    "page": lambda _: _page(),
    "line": lambda _: _page()[140:220, 40:800],
    "isbn": lambda _: _isbn(),
    "passport": _passport,
    "puzzle": _puzzle,
    "glyphs": _glyphs,
    "plate": _plate,
}
