"""Classifiers that PyTorch exports, by both of its exporters, have their scores."""

import warnings

import numpy as np
import pytest

from minifcn.layers import Sequential
from minifcn.models import FCN
from minifcn.weights import load_onnx
from tests.models.trunks import normal
from tests.weights.onnx_sessions import assert_same_scores, run

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
nn = torch.nn


class Block(nn.Module):
    """A residual block, or with `gate` one with squeeze-and-excitation; or branches that are joined."""

    def __init__(self, *branches, kind="add", gate=None, after=None):
        super().__init__()
        self.branches, self.kind = nn.ModuleList(branches), kind
        self.gate, self.after = gate, after or nn.Identity()

    def forward(self, x):
        ys = [branch(x) for branch in self.branches]
        y = torch.cat(ys, 1) if self.kind == "cat" else sum(ys[1:], start=ys[0])
        return self.after(y if self.gate is None else y * self.gate(y))


class Shuffle(nn.Module):
    """A unit of ShuffleNet v2: one half of the channels goes through a branch, and both are mixed."""

    def __init__(self, branch):
        super().__init__()
        self.branch = branch

    def forward(self, x):
        kept, changed = x.chunk(2, 1)
        y = torch.cat([kept, self.branch(changed)], 1)
        n, channels, height, width = y.shape
        return y.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, -1, height, width)


class DenseGate(nn.Module):
    """Squeeze-and-excitation by dense layers, as in the first code of SENet."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(channels, 4), nn.ReLU(inplace=True), nn.Linear(4, channels), nn.Sigmoid()
        )

    def forward(self, x):
        gate = self.layers(x.mean((2, 3)))
        return x * gate.view(gate.shape[0], gate.shape[1], 1, 1)


def conv(channels_in, channels, *, stride=1, groups=1, act=nn.ReLU, kernel=3, dilation=1):
    padding = kernel // 2 * dilation
    options = {"stride": stride, "padding": padding, "groups": groups, "dilation": dilation, "bias": False}
    conv = nn.Conv2d(channels_in, channels, kernel, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), act())


def gate(channels, act=nn.Hardsigmoid):
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 4, 1), nn.SiLU(), nn.Conv2d(4, channels, 1), act()
    )


NETS = {
    "residual": lambda: nn.Sequential(
        conv(3, 8, stride=2, kernel=7),
        nn.MaxPool2d(3, 2, 1),
        Block(nn.Sequential(conv(8, 8), conv(8, 8, act=nn.Identity)), nn.Identity(), after=nn.ReLU()),
        Block(conv(8, 16, stride=2, act=nn.Identity), conv(8, 16, stride=2, kernel=1), after=nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(16, 5)),
    ),
    "plain": lambda: nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.LeakyReLU(0.2)),
        nn.Sequential(nn.AvgPool2d(3, 2, 1, ceil_mode=True), nn.Flatten(), nn.Dropout()),
        nn.Sequential(nn.Linear(8 * 64, 9), nn.BatchNorm1d(9), nn.PReLU(), nn.Linear(9, 5), nn.Softmax(1)),
    ),
    "mobile": lambda: nn.Sequential(
        conv(3, 8, stride=2, act=nn.Hardswish),
        conv(8, 8, groups=8, act=nn.ReLU6),
        Block(conv(8, 8, act=nn.SiLU), nn.Identity(), gate=gate(8)),
        Block(conv(8, 8, groups=8), gate=gate(8, nn.Sigmoid)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)),
        nn.Sequential(nn.Hardswish(), nn.Linear(6, 5)),
    ),
    "shuffled": lambda: nn.Sequential(
        conv(3, 8, stride=2),
        Shuffle(nn.Sequential(conv(4, 4, groups=4), conv(4, 4, kernel=1))),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        DenseGate(8),
        Shuffle(conv(4, 4)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)),
    ),
    "joined": lambda: nn.Sequential(
        conv(3, 8, stride=2),
        Block(conv(8, 4, kernel=1), nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(8, 6)), kind="cat"),
        nn.Sequential(nn.GroupNorm(2, 10), nn.PReLU(10), nn.Hardtanh(-1, 2)),
        nn.Upsample(scale_factor=2),
        nn.Upsample((40, 50), mode="bilinear", align_corners=True),
        nn.ConvTranspose2d(10, 6, 3, 2, 1, 1, groups=2),
        nn.Upsample((30, 20), mode="bilinear"),
        nn.Sequential(nn.Conv2d(6, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ),
}  # fmt: skip


def altered(net):
    """Set random statistics, as after training."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.GroupNorm | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -1, 1)
    return net.eval()


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", [False, True], ids=["script", "dynamo"])
@pytest.mark.parametrize("free", [False, True], ids=["one image", "any number"])
@pytest.mark.parametrize("name", NETS)
def test_exports_of_pytorch(name, free, dynamo, tmp_path):
    net = altered(NETS[name]())
    path, image = str(tmp_path / "net.onnx"), torch.zeros(2 if free else 1, 3, 64, 64)
    options = {"external_data": False, "verbose": False} if dynamo else {}
    if free and dynamo:
        options["dynamic_shapes"] = [{0: torch.export.Dim("N", min=1)}]
    elif free:
        options |= {"input_names": ["x"], "dynamic_axes": {"x": {0: "N"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (image,), path, dynamo=dynamo, **options)
    classifier = load_onnx(path)
    x = normal((2 if free else 1, 3, 64, 64)).astype("float32")
    scores, expected = classifier(x), run(path, x)
    if name == "plain":  # the softmax is left out
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    assert_same_scores(scores, expected)
    assert isinstance(classifier.features, Sequential)
    if name != "joined":  # its sizes are fixed
        assert FCN(classifier, 3, min(classifier.taps, default=None)).output_shape((3, 50, 70)) == (3, 50, 70)
