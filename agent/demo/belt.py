"""Pictures of machined parts on a belt, as a camera above it takes them, and the truth about each.

A part is a turned disc or a milled plate with holes, somewhere on a ribbed belt, under a light that varies.  Tool
marks, holes, dust and noise are normal; a scratch is not: a thin, slightly bent line with a bright edge, of any
length, angle, width and depth.  Numbers draw everything: the same series and number give the same picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["SIDE", "Part", "part"]

Image: TypeAlias = NDArray[np.uint8]
Plane: TypeAlias = NDArray[np.float32]
Random: TypeAlias = np.random.Generator

SIDE = 512
"""Of a picture, in pixels."""

_ROWS, _COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
_DRAWN = 127
"""Of 255, from where on a pixel counts as drawn."""
_SHIFT = 4
_SUBPIXELS = 1 << _SHIFT
_HALF = 0.5
_WHOLE = 0.99
_MOST_HOLES, _MOST_DUST = 6, 6
_LEAST_SCRATCH = 60
"""Pixels of a scratch that have to lie on the part."""
_TINTS = ((1.0, 0.99, 0.96), (1.02, 1.0, 0.97), (0.78, 0.93, 1.02))
"""Steel, aluminium and brass: blue, green and red."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part's picture, blue, green, red, and where it is scratched."""

    pixels: Image
    mask: NDArray[np.bool_]

    @property
    def scratched(self) -> bool:
        """Whether there is a scratch anywhere."""
        return bool(self.mask.any())


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where a part is, from 0 to 1 for each pixel, and the way its tool went."""

    inside: Plane
    tool: Plane
    """Pixels across the tool marks."""
    turned: bool
    centre: tuple[float, float]


def part(series: int, number: int, *, scratched: bool) -> Part:
    """The part of that number in a series; with and without its scratch it is the same part otherwise."""
    random = np.random.default_rng((series, number))
    shape = _disc(random) if random.random() < _HALF else _plate(random)
    belt, surface = _belt(random), _surface(shape, random)
    light, tint = _light(random), _TINTS[random.integers(len(_TINTS))]
    blur, noise = random.uniform(0.3, 1.1), random.uniform(1.5, 5.0)
    grain = random.standard_normal((SIDE, SIDE, 3), np.float32) * np.float32(noise)
    mask = np.zeros((SIDE, SIDE), np.bool_)
    if scratched:
        mask = _scratch(surface, shape, random)
    shade = cv2.GaussianBlur(np.roll(shape.inside, (9, 6), (0, 1)), (0, 0), 9) * (1 - shape.inside)
    belt *= 1 - np.float32(0.55) * shade
    lit = [
        (belt * by_belt * (1 - shape.inside) + surface * by_part * shape.inside) * light
        for by_belt, by_part in zip((0.95, 1.02, 0.93), tint, strict=True)
    ]
    seen = cv2.GaussianBlur(np.stack(lit, axis=2).astype(np.float32), (0, 0), blur) + grain
    return Part(np.rint(seen.clip(0, 255)).astype(np.uint8), mask)


def _cloud(random: Random, cells: int) -> Plane:
    """Smooth noise about 0, of so many cells across."""
    coarse = random.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), np.float32)


def _belt(random: Random) -> Plane:
    pitch, phase, ribs = random.uniform(9, 16), random.uniform(0, 2 * math.pi), random.uniform(2, 7)
    across = _COLUMNS + 3 * _cloud(random, 5)
    woven = ribs * np.sin(across * np.float32(2 * math.pi / pitch) + phase) + 1.5 * np.sin(_ROWS * np.float32(1.3))
    worn = 5 * _cloud(random, 4) + 3 * _cloud(random, 40)
    return np.asarray(random.uniform(38, 72) + woven + worn, np.float32)


def _disc(random: Random) -> _Shape:
    radius = random.uniform(0.24, 0.36) * SIDE
    x, y = (random.uniform(radius + 14, SIDE - radius - 14) for _ in range(2))
    away = np.hypot(_COLUMNS - np.float32(x), _ROWS - np.float32(y))
    inside = _edge(radius - away)
    bore = random.uniform(0.12, 0.34) * radius
    inside *= 1 - _edge(bore - away)
    holes, start = int(random.integers(0, _MOST_HOLES + 1)), random.uniform(0, 2 * math.pi)
    for angle in (start + 2 * math.pi * hole / holes for hole in range(holes)):
        way = (bore + radius) / 2
        hole = np.hypot(_COLUMNS - np.float32(x + way * math.cos(angle)), _ROWS - np.float32(y + way * math.sin(angle)))
        inside *= 1 - _edge(np.float32(0.09 * radius) - hole)
    return _Shape(inside, away, turned=True, centre=(x, y))


def _plate(random: Random) -> _Shape:
    width, height = random.uniform(0.44, 0.62) * SIDE, random.uniform(0.34, 0.48) * SIDE
    reach = math.hypot(width, height) / 2 + 8
    x, y = (random.uniform(min(reach, SIDE / 2), max(SIDE - reach, SIDE / 2)) for _ in range(2))
    angle = random.uniform(0, math.pi)
    along = (_COLUMNS - x) * math.cos(angle) + (_ROWS - y) * math.sin(angle)
    across = (_ROWS - y) * math.cos(angle) - (_COLUMNS - x) * math.sin(angle)
    corner = random.uniform(8, 26)
    past = np.hypot(
        np.maximum(np.abs(along) - width / 2 + corner, 0), np.maximum(np.abs(across) - height / 2 + corner, 0)
    )
    inside = _edge(corner - past)
    bore, inset = random.uniform(9, 16), random.uniform(30, 42)
    for side_x in (-1, 1):
        for side_y in (-1, 1):
            hole = np.hypot(along - side_x * (width / 2 - inset), across - side_y * (height / 2 - inset))
            inside *= 1 - _edge(bore - hole)
    milled = random.uniform(-0.5, 0.5)
    tool = along * math.sin(milled) + across * math.cos(milled)
    return _Shape(inside.astype(np.float32), tool.astype(np.float32), turned=False, centre=(x, y))


def _edge(depth: Plane) -> Plane:
    """How much of a pixel is inside, by how deep it lies inside."""
    return np.asarray(np.clip(depth + np.float32(_HALF), 0, 1), np.float32)


def _surface(shape: _Shape, random: Random) -> Plane:
    """Bare metal: tool marks, sheen, bevelled edges and a little dust."""
    profile = cv2.GaussianBlur(random.standard_normal((1, 4 * SIDE), np.float32), (0, 0), random.uniform(0.6, 1.6))
    marks = np.interp(shape.tool.ravel() + 2 * SIDE, np.arange(4 * SIDE), profile[0]).reshape(SIDE, SIDE)
    marks = random.uniform(5, 14) * marks + random.uniform(0, 4) * np.sin(shape.tool * random.uniform(0.5, 1.1))
    x, y = shape.centre
    way = random.uniform(0, 2 * math.pi)
    if shape.turned:
        sheen = np.cos(2 * (np.arctan2(_ROWS - np.float32(y), _COLUMNS - np.float32(x)) - np.float32(way)))
    else:
        sheen = ((_COLUMNS - x) * math.cos(way) + (_ROWS - y) * math.sin(way)) / (SIDE / 4)
    metal = random.uniform(120, 165) + marks + random.uniform(4, 24) * sheen + 3 * _cloud(random, 12)
    rim = cv2.GaussianBlur(shape.inside, (0, 0), 3)
    metal = np.asarray(metal + random.uniform(20, 60) * (shape.inside - rim), np.float32)
    for _ in range(int(random.integers(0, _MOST_DUST + 1))):
        spot = tuple(int(at) for at in random.integers(0, SIDE * _SUBPIXELS, 2))
        dust = np.zeros((SIDE, SIDE), np.uint8)
        cv2.circle(dust, spot, int(random.uniform(0.8, 2.6) * _SUBPIXELS), 255, -1, cv2.LINE_AA, _SHIFT)
        metal += np.float32(random.uniform(-50, 35) / 255) * dust
    return np.asarray(metal, np.float32)


def _light(random: Random) -> Plane:
    """How bright the lamp is where: a slope and a fall-off to the corners."""
    way, slope = random.uniform(0, 2 * math.pi), random.uniform(0, 0.18)
    x, y = (_COLUMNS / SIDE - np.float32(_HALF), _ROWS / SIDE - np.float32(_HALF))
    light = 1 + slope * (x * math.cos(way) + y * math.sin(way)) - random.uniform(0, 0.35) * (x * x + y * y)
    return np.asarray(light * random.uniform(0.72, 1.2), np.float32)


def _scratch(surface: Plane, shape: _Shape, random: Random) -> NDArray[np.bool_]:
    """Draw a scratch into the surface; the result is where it is."""
    solid = shape.inside > _WHOLE
    rows, columns = np.nonzero(solid)
    while True:
        begin = int(random.integers(len(rows)))
        length, width, way = random.uniform(60, 260), random.uniform(1.2, 3.8), random.uniform(0, 2 * math.pi)
        path = _path((columns[begin], rows[begin]), length, way, random.uniform(-0.7, 0.7))
        mask = (_stroke(path, width + 3) > _DRAWN) & solid
        if np.count_nonzero(_stroke(path, 1.0)[solid] > _DRAWN) >= _LEAST_SCRATCH:
            break
    depth = random.uniform(24, 90)
    groove = _stroke(path, width) * np.float32(1 / 255)
    burr = _stroke(path + np.float32((width * 0.5 + 0.6) * random.choice((-1, 1))), 1.2) * np.float32(1 / 255)
    surface += (random.uniform(0.3, 0.8) * burr * (1 - groove) - groove) * np.float32(depth)
    return np.asarray(mask, np.bool_)


def _path(begin: tuple[int, int], length: float, way: float, bend: float) -> Plane:
    """Points of an arc; ``bend`` is how far it turns, in radians."""
    steps = np.linspace(0, 1, 24)
    angles = way + bend * (steps - _HALF)
    step = length / len(steps)
    points = np.stack([np.cumsum(np.cos(angles)), np.cumsum(np.sin(angles))], axis=1) * step + np.array(begin)
    return np.asarray(points, np.float32)


def _stroke(path: Plane, width: float) -> Plane:
    """A line along a path, from 0 to 255; of a broken width, a mean of the two next to it."""
    whole = max(1, math.floor(width))
    share = np.float32(width - whole)
    return np.asarray(_line(path, whole) * (1 - share) + _line(path, whole + 1) * share, np.float32)


def _line(path: Plane, width: int) -> Image:
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    points = np.rint(path * _SUBPIXELS).astype(np.int32)
    cv2.polylines(drawn, [points], isClosed=False, color=255, thickness=width, lineType=cv2.LINE_AA, shift=_SHIFT)
    return drawn
