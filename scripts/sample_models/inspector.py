"""The inspector: a small network that marks scratches on parts, trained on generated pictures, and how good it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import litert_torch
import numpy as np
import numpy.typing as npt
import torch
from ai_edge_litert.interpreter import Interpreter
from sample_models.classifier import fold
from sample_models.pictures import Pixels
from sample_models.quantisation import Floats, normalised
from torch import nn
from torch.nn import functional

from agent.demo import belt

SIDE = 256
MEAN, STD = 127.5, 127.5
LABELS = ["background", "scratch"]
THRESHOLD = 0.5

# Series of parts; the demo's begin at 1000.
_TRAINED, _HELD_BACK = 1, 2
_TRAINED_PARTS, _HELD_BACK_PARTS = 2400, 600
_SHOWN = {"good": 0, "scratched": 1}

_STEPS, _BATCH, _CROP, _RATE = 2800, 8, 160, 1e-2
_QUALITY = 85
"""Of the JPEG in which cameras send what they see."""
_LEAST_PIXELS = 12
"""Of a scratch in a crop: fewer say nothing."""

Mask = npt.NDArray[np.bool_]


class Network(nn.Module):
    """A logit of "scratch" for each pixel, and one for the picture: that of its most suspicious place, scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.Sequential(_convolution(3, 12, stride=2), _convolution(12, 12))
        self.quarters = nn.Sequential(_convolution(12, 24, stride=2), _convolution(24, 24))
        self.eighths = nn.Sequential(
            _convolution(24, 32, stride=2), _convolution(32, 32), _convolution(32, 32, dilation=2)
        )
        self.up_quarters = _convolution(24 + 32, 24)
        self.up_halves = _convolution(12 + 24, 12)
        self.last = nn.Conv2d(12, 1, 1)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.offset = nn.Parameter(torch.tensor(0.0))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The map [N, 1, H, W] and the score [N, 1]."""
        halves = self.halves(pictures)
        quarters = self.quarters(halves)
        quarters = self.up_quarters(torch.cat([quarters, _twice(self.eighths(quarters))], 1))
        logits = self.last(self.up_halves(torch.cat([halves, _twice(quarters)], 1)))
        worst = functional.avg_pool2d(logits, 3, 1).amax((2, 3))
        return _twice(logits), worst * self.scale + self.offset


class _Named(nn.Module):
    """Probabilities, called as Anomalib calls them."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        logits, score = self.network(pictures)
        return {"anomaly_map": logits.sigmoid(), "pred_score": score.sigmoid()}


@dataclass(frozen=True)
class Quality:
    """What the file answers to parts that it was not trained with, half of them scratched."""

    parts: int
    auroc: float
    accuracy: float
    missed: int
    false_alarms: int
    pixel_iou: float


def write_samples(folder: Path) -> list[Path]:
    """A good part and a scratched one as JPEG; neither was trained with."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in _SHOWN.items():
        shown = belt.part(_HELD_BACK, number, scratched=name == "scratched")
        cv2.imwrite(str(folder / f"{name}.jpg"), shown.pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return [folder / f"{name}.jpg" for name in _SHOWN]


def convert(path: Path) -> None:
    """Train, and write the model: float, NHWC input."""
    network = train().eval()
    fold(network)
    model = litert_torch.to_channel_last_io(_Named(network).eval(), args=[0])
    litert_torch.convert(model.eval(), (torch.zeros(1, SIDE, SIDE, 3),)).export(str(path))


def train() -> Network:
    """A trained network: one thread and fixed seeds, so that it is the same each time on one kind of processor."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(0)
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=1e-3)
    pace = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, _STEPS)
    for pictures, masks in _batches():
        logits, scores = network(pictures)
        loss = _loss(logits, scores, masks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        pace.step()
    return network


def measure(path: Path) -> Quality:
    """How good a file is on parts that are held back."""
    ask = _Asked(path)
    pictures, masks = _parts(_HELD_BACK, _HELD_BACK_PARTS)
    scores, both, either = [], 0, 0
    for picture, mask in zip(pictures, masks, strict=True):
        score, plane = ask(picture)
        said = plane >= THRESHOLD
        scores.append(score)
        both += int((said & mask).sum())
        either += int((said | mask).sum())
    return _quality(np.array(scores), masks.any((1, 2)), both / either)


def answer(path: Path, picture: Path) -> float:
    """The score of a picture in a file."""
    seen: Any = cv2.imread(str(picture))
    return _Asked(path)(_shown(seen))[0]


class _Asked:
    """A model file that answers pictures: the score, and the probability for each pixel."""

    def __init__(self, path: Path) -> None:
        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._entry = self._interpreter.get_input_details()[0]["index"]
        outputs = sorted(self._interpreter.get_output_details(), key=lambda one: int(np.prod(one["shape"])))
        self._score, self._map = (one["index"] for one in outputs)

    def __call__(self, picture: Pixels) -> tuple[float, Floats]:
        self._interpreter.set_tensor(self._entry, normalised(picture, MEAN, STD))
        self._interpreter.invoke()
        return float(self._interpreter.get_tensor(self._score)[0, 0]), self._interpreter.get_tensor(self._map)[0, 0]


def _quality(scores: npt.NDArray[np.float64], scratched: Mask, pixel_iou: float) -> Quality:
    said = scores >= THRESHOLD
    higher = scores[scratched][:, None] - scores[~scratched][None]
    return Quality(
        parts=len(scores),
        auroc=float(((higher > 0) + (higher == 0) / 2).mean()),
        accuracy=float((said == scratched).mean()),
        missed=int((scratched & ~said).sum()),
        false_alarms=int((~scratched & said).sum()),
        pixel_iou=pixel_iou,
    )


def _parts(series: int, count: int) -> tuple[Pixels, Mask]:
    """RGB pictures as the network is shown them, and masks; every other part is scratched."""
    pictures, masks = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty((count, SIDE, SIDE), np.bool_)
    for number in range(count):
        seen = belt.part(series, number, scratched=number % 2 == 1)
        _, sent = cv2.imencode(".jpg", seen.pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        pictures[number] = _shown(cv2.imdecode(sent, cv2.IMREAD_COLOR))
        masks[number] = cv2.resize(seen.mask.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) >= 1 / 2
    return pictures, masks


def _shown(seen: Any) -> Pixels:
    """A picture as the agent hands it to the network."""
    return np.asarray(cv2.cvtColor(cv2.resize(seen, (SIDE, SIDE)), cv2.COLOR_BGR2RGB), np.uint8)


def _batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Turned and mirrored crops; of a scratched part mostly such that show its scratch."""
    pictures, masks = _parts(_TRAINED, _TRAINED_PARTS)
    random = np.random.default_rng(0)
    for _ in range(_STEPS):
        crops = [_crop(pictures[number], masks[number], random) for number in random.integers(0, len(pictures), _BATCH)]
        shown = np.stack([picture for picture, _ in crops]).astype(np.float32)
        truth = np.stack([mask for _, mask in crops]).astype(np.float32)
        yield (torch.from_numpy(shown).permute(0, 3, 1, 2) - MEAN) / STD, torch.from_numpy(truth)[:, None]


def _crop(picture: Pixels, mask: Mask, random: np.random.Generator) -> tuple[Pixels, Mask]:
    corner = random.integers(0, SIDE - _CROP + 1, 2)
    places = np.argwhere(mask)
    if len(places):
        corner = (places[random.integers(len(places))] - random.integers(0, _CROP, 2)).clip(0, SIDE - _CROP)
    part = slice(corner[0], corner[0] + _CROP), slice(corner[1], corner[1] + _CROP)
    turns, mirrored = int(random.integers(4)), slice(None, None, int(random.choice((-1, 1))))
    return np.rot90(picture[part], turns)[:, mirrored], np.rot90(mask[part], turns)[:, mirrored]


def _loss(logits: torch.Tensor, scores: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Of pixels, of their overlap (a scratch is one pixel in five hundred), and of the picture's score."""
    likely = logits.sigmoid()
    pixels = functional.binary_cross_entropy_with_logits(logits, masks, pos_weight=torch.tensor(3.0))
    overlap = (2 * (likely * masks).sum() + 1) / (likely.sum() + masks.sum() + 1)
    scratched = (masks.sum((2, 3)) > _LEAST_PIXELS).float()
    return 5 * pixels + 1 - overlap + 0.3 * functional.binary_cross_entropy_with_logits(scores, scratched)


def _convolution(given: int, made: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    kernel: Any = nn.Conv2d(given, made, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(kernel, nn.BatchNorm2d(made), nn.ReLU())


def _twice(planes: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(planes, scale_factor=2.0, mode="bilinear")
