"""The networks of `networks.py` as a PyTorch user would write them.

Modules work in place where possible, kernels of the upsampling are fixed, and borders are replicated before
each upsampling, as minifcn's exact alignment does it.
"""

from typing import Any

import torch
from networks import NETWORKS
from torch import nn
from torch.nn import functional as F

Trunk = tuple[nn.Sequential, nn.Module, dict[int, tuple[int, int]], int]
"""Features, head, the places and channels of the tapped values by stride, and the channels of the head."""


class Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.squeeze(x), inplace=True)
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1), inplace=True)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, dilation: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False),
            nn.BatchNorm2d(width), nn.ReLU(True),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
        )  # fmt: skip
        self.shortcut: nn.Module = nn.Identity()
        if inputs != 4 * width:
            conv = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

    def forward(self, x: Any) -> Any:
        return F.relu(self.branch(x) + self.shortcut(x), inplace=True)


def squeezenet() -> Trunk:
    pool = {"kernel_size": 3, "stride": 2, "ceil_mode": True}
    features = nn.Sequential(
        nn.Conv2d(3, 96, 7, 2), nn.ReLU(True), nn.MaxPool2d(**pool),
        Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128), nn.MaxPool2d(**pool),
        Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256),
        nn.MaxPool2d(**pool), Fire(512, 64, 256),
    )  # fmt: skip
    return features, nn.Dropout(0.5), {8: (10, 512), 4: (5, 256)}, 512


def vgg16() -> Trunk:
    layers: list[nn.Module] = []
    channels, taps = 3, {}
    for stage, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(True)]
            channels = width
        taps[2 << stage] = (len(layers), width)
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    head = nn.Sequential(
        nn.Conv2d(512, 4096, 7, padding=3), nn.ReLU(True), nn.Dropout(0.5),
        nn.Conv2d(4096, 4096, 1), nn.ReLU(True), nn.Dropout(0.5),
    )  # fmt: skip
    return nn.Sequential(*layers), head, {stride: taps[stride] for stride in (16, 8)}, 4096


def resnet50(dilated: bool = False) -> Trunk:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)
    ]  # fmt: skip
    channels, dilation = 64, 1
    for stage, depth in enumerate((3, 4, 6, 3)):
        width, before = 64 << stage, dilation
        dilation *= 2 if dilated and stage > 1 else 1
        first = Bottleneck(channels, width, 1 if stage == 0 or dilation > 1 else 2, before)
        channels = 4 * width
        others = (Bottleneck(channels, width, 1, dilation) for _ in range(depth - 1))
        layers.append(nn.Sequential(first, *others))
    return nn.Sequential(*layers), nn.Identity(), {16: (6, 1024), 8: (5, 512)}, 2048


class FCN(nn.Module):
    """Scores of the head and of tapped features, and transposed convolutions between them."""

    def __init__(self, trunk: Trunk, classes: int, odd: bool) -> None:
        super().__init__()
        self.features, self.head, self.taps, width = trunk
        self.score = nn.Conv2d(width, classes, 1)
        self.skips = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _, channels in self.taps.values())
        for layer in (self.score, *self.skips):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        for factor in {2, min(self.taps)}:
            # Windows of 2 x 2 pools are centred between pixels, those of 3 x 3 pools on them.
            k = 2 * factor - odd
            tent = 1 - (torch.arange(k) - (k - 1) / 2).abs() / factor
            self.register_buffer(f"kernel{factor}", torch.outer(tent, tent).repeat(classes, 1, 1, 1))

    def up(self, y: Any, factor: int, size: tuple[int, int]) -> Any:
        kernel: Any = getattr(self, f"kernel{factor}")
        padded = F.pad(y, (1, 1, 1, 1), mode="replicate")
        y = F.conv_transpose2d(padded, kernel, stride=factor, groups=len(kernel))
        top, left = ((have - want) // 2 for have, want in zip(y.shape[2:], size, strict=True))
        return y[:, :, top : top + size[0], left : left + size[1]]

    def forward(self, x: Any) -> Any:
        size, tapped = x.shape[2:], {}
        for i, layer in enumerate(self.features):
            x = layer(x)
            tapped[i] = x
        scores = self.score(self.head(x))
        for skip, (place, _) in zip(self.skips, self.taps.values(), strict=True):
            finer = tapped[place]
            scores = self.up(scores, 2, finer.shape[2:]) + skip(finer)
        return self.up(scores, min(self.taps), size)


class Resized(nn.Module):
    """Torchvision's FCN: scores of a dilated network, resized to the image."""

    def __init__(self, trunk: Trunk, classes: int) -> None:
        super().__init__()
        self.features, _, _, width = trunk
        self.head = nn.Sequential(
            nn.Conv2d(width, width // 4, 3, padding=1, bias=False), nn.BatchNorm2d(width // 4), nn.ReLU(True),
            nn.Dropout(0.1), nn.Conv2d(width // 4, classes, 1),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return F.interpolate(self.head(self.features(x)), x.shape[2:], mode="bilinear", align_corners=False)


def network(name: str) -> nn.Module:
    """Return a network of `networks.NETWORKS`."""
    classes = NETWORKS[name].classes
    if name == "fcn_resnet50":
        return Resized(resnet50(dilated=True), classes)
    trunk = {"fcn4s-squeezenet": squeezenet, "fcn8s-vgg16": vgg16, "fcn8s-resnet50": resnet50}[name]()
    return FCN(trunk, classes, odd=name != "fcn8s-vgg16")
