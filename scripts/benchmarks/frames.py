"""The frames every measurement uses: 640×480 JPEG at quality 85, panned over the sample pictures."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

import cv2

PICTURES = Path(__file__).parents[2] / "agent" / "samples" / "images"
WIDTH, HEIGHT, QUALITY = 640, 480, 85


def frames(count: int = 24) -> list[bytes]:
    """That many different frames."""
    made = []
    for number, path in enumerate(islice(cycle(sorted(PICTURES.glob("*.jpg"))), count)):
        picture = cv2.imread(str(path))
        scale = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0]) * (1.05 + 0.01 * number)
        grown = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        top, left = (grown.shape[0] - HEIGHT) // 2, (grown.shape[1] - WIDTH) // 2
        _, jpeg = cv2.imencode(
            ".jpg", grown[top : top + HEIGHT, left : left + WIDTH], [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
        made.append(jpeg.tobytes())
    return made
