"""The frames every measurement uses: 640×480 JPEG at quality 85, panned over the sample pictures.

They are made once a run and read from files, so that all processes, whatever OpenCV they have, see the same bytes.
"""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path

PICTURES = Path(__file__).parents[2] / "agent" / "samples" / "images"
WIDTH, HEIGHT, QUALITY = 640, 480, 85


def write(folder: Path, count: int = 24) -> Path:
    """Make that many different frames in a folder."""
    import cv2  # noqa: PLC0415 the measuring client, which only reads, does without

    folder.mkdir()
    for number, path in enumerate(islice(cycle(sorted(PICTURES.glob("*.jpg"))), count)):
        picture = cv2.imread(str(path))
        scale = max(WIDTH / picture.shape[1], HEIGHT / picture.shape[0]) * (1.05 + 0.01 * number)
        grown = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        top, left = (grown.shape[0] - HEIGHT) // 2, (grown.shape[1] - WIDTH) // 2
        cut = grown[top : top + HEIGHT, left : left + WIDTH]
        cv2.imwrite(str(folder / f"{number:02}.jpg"), cut, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return folder


def read(folder: Path) -> list[bytes]:
    """The frames of a folder, in order."""
    return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
