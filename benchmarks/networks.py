"""The same networks in minifcn and in PyTorch: functions that run a training step or an inference.

The PyTorch ones are written as a PyTorch user would write them: in-place modules where possible, fixed
bilinear kernels, replicated borders before each upsampling.
"""

import json
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from beside import Side, in_turn

from minifcn.kernels.threads import num_threads, set_num_threads

NETWORKS = {
    "fcn4s-squeezenet": ("squeezenet1_0", 11, 4),
    "fcn8s-vgg16": ("vgg16", 21, 8),
}
"""For each name, the classifier, the number of classes, and the stride."""

LR = {"fcn4s-squeezenet": 2e-4, "fcn8s-vgg16": 1e-6}


def inputs(name: str, batch: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return random images, float32 (N, 3, H, W), and labels, uint8 (N, H, W)."""
    rng = np.random.default_rng(0)
    x = 50 * rng.standard_normal((batch, 3, *size), np.float32)
    return x, rng.integers(0, NETWORKS[name][1], (batch, *size)).astype(np.uint8)


def minifcn_job(
    name: str, what: str, batch: int, size: tuple[int, int], device: str = "cpu"
) -> Callable[[], Any]:
    """Return a function that runs an inference or a training step in minifcn."""
    import minifcn as mf

    classifier, classes, stride = NETWORKS[name]
    x, labels = (mf.to_device(array, device) for array in inputs(name, batch, size))
    fcn = mf.models.FCN(getattr(mf.models, classifier)(rng=0), classes, stride)
    fcn.to(device)
    if what == "inference":
        fcn.eval()
        return lambda: fcn(x)
    fcn.train()
    optimizer = mf.optim.Adam(fcn, LR[name])

    def step() -> float:
        loss, dscores = mf.losses.softmax_cross_entropy(fcn(x), labels)
        fcn.backward_parameters(dscores)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def torch_job(
    name: str, what: str, batch: int, size: tuple[int, int], device: str = "cpu"
) -> Callable[[], Any]:
    """Return a function that runs the same in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Fire(nn.Module):
        def __init__(self, inputs: int, squeezed: int, expanded: int):
            super().__init__()
            self.squeeze = nn.Conv2d(inputs, squeezed, 1)
            self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
            self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

        def forward(self, x: Any) -> Any:
            x = F.relu(self.squeeze(x), inplace=True)
            return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1), inplace=True)

    def squeezenet() -> tuple[nn.Sequential, nn.Sequential, dict[int, tuple[int, int]], int]:
        pool = {"kernel_size": 3, "stride": 2, "ceil_mode": True}
        features = nn.Sequential(
            nn.Conv2d(3, 96, 7, 2), nn.ReLU(True), nn.MaxPool2d(**pool),
            Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128), nn.MaxPool2d(**pool),
            Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256),
            nn.MaxPool2d(**pool), Fire(512, 64, 256),
        )  # fmt: skip
        return features, nn.Sequential(nn.Dropout(0.5)), {8: (10, 512), 4: (5, 256)}, 512

    def vgg() -> tuple[nn.Sequential, nn.Sequential, dict[int, tuple[int, int]], int]:
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

    class Network(nn.Module):
        def __init__(self, odd: bool) -> None:
            super().__init__()
            _, classes, _ = NETWORKS[name]
            self.features, self.head, self.taps, width = squeezenet() if odd else vgg()
            self.score = nn.Conv2d(width, classes, 1)
            self.skips = nn.ModuleList(nn.Conv2d(channels, classes, 1) for _, channels in self.taps.values())
            for layer in (self.score, *self.skips):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
            self.classes, self.odd = classes, odd

        def up(self, y: Any, factor: int, size: tuple[int, int]) -> Any:
            k = (
                2 * factor - self.odd
            )  # windows of 2 x 2 pools are centred between pixels, those of 3 x 3 pools on them
            tent = 1 - (torch.arange(k, device=y.device) - (k - 1) / 2).abs() / factor
            kernel = torch.outer(tent, tent).expand(self.classes, 1, k, k)
            y = F.conv_transpose2d(
                F.pad(y, (1, 1, 1, 1), mode="replicate"), kernel, stride=factor, groups=self.classes
            )
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

    torch.set_num_threads(num_threads())
    x, labels = inputs(name, batch, size)
    images = torch.tensor(x, device=device)
    truth = torch.tensor(labels.astype(np.int64), device=device)
    network = Network(odd=name == "fcn4s-squeezenet").to(device)
    if what == "inference":
        network.eval()

        def infer() -> Any:
            with torch.inference_mode():
                return network(images)

        return infer
    optimizer = torch.optim.Adam(network.parameters(), LR[name])

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), truth)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


JOBS = {"minifcn": minifcn_job, "torch": torch_job}


class Comparison:
    """Times jobs of both libraries, each in a process of its own, alternating between them.

    Attributes:
        results: The seconds of all runs and the peaks of memory, for each case.
    """

    def __init__(self, runs: int) -> None:
        self.results: list[dict[str, Any]] = []
        self._runs = runs

    def time(self, name: str, what: str, batch: int, size: tuple[int, int], threads: int) -> str:
        """Time one case; return a line: both medians, their ratio, microseconds per pixel, both peaks."""
        sides = {library: Side() for library in JOBS}
        for library, side in sides.items():
            side.make(_with_threads, threads, library, name, what, batch, size)
        seconds = in_turn(sides, self._runs)
        peaks = {library: side.peak_mb() for library, side in sides.items()}
        case = {"network": name, "what": what, "batch": batch, "size": size, "threads": threads}
        self.results.append({**case, "seconds": seconds, "peak_mb": peaks})
        ours, theirs = map(median, seconds.values())
        each = 1e6 * ours / (batch * size[0] * size[1])
        line = f"{ours:9.3f}s{theirs:9.3f}s{ours / theirs:7.2f}{each:10.2f}"
        return line + "".join(f"{peak:9.0f}" for peak in peaks.values())

    def write(self, path: str | None) -> None:
        """Write the raw results as JSON, if a path is given."""
        if path:
            with open(path, "w") as file:
                json.dump(self.results, file, indent=1)

    def plot(self, path: str | None) -> None:
        """Draw times and peaks of memory as fractions of PyTorch's, if a path is given."""
        if not path:
            return
        from matplotlib.figure import Figure

        shares: dict[str, list[float]] = {"time": [], "peak memory": []}
        for case in self.results:
            for values, measured in zip(shares.values(), (case["seconds"], case["peak_mb"]), strict=True):
                ours, theirs = (float(np.median(measured[library])) for library in JOBS)
                values.append(ours / theirs)
        figure = Figure(figsize=(9, 1 + len(self.results) / 4), dpi=100, layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        places = range(len(self.results))
        looks = {"color": "#9CC7E8", "hatch": "//"}, {"color": "#D9B382"}
        for ax, (title, values), look in zip(axes, shares.items(), looks, strict=True):
            ax.barh(places, values, edgecolor="0.3", linewidth=0.6, **look)
            ax.axvline(1, color="black", linewidth=1)
            ax.set(title=f"{title}, minifcn / PyTorch", xlim=(0, 1.2 * max(*values, 1)))
            for place, value in zip(places, values, strict=True):
                label = ax.text(value + 0.02, place, f"{value:.2f}", va="center", fontsize=8)
                label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        names = [f"{case['network']}, {case['what']}, batch {case['batch']}" for case in self.results]
        axes[0].set_yticks(places, names, fontsize=8)
        axes[0].invert_yaxis()
        figure.savefig(path)


HEAD = f"{'minifcn':>10}{'PyTorch':>10}{'ratio':>7}{'us/pixel':>10}{'peak MB':>9}{'PyTorch':>9}"


def _with_threads(threads: int, library: str, *arguments: Any) -> Callable[[], Any]:
    """Return a job of a library that uses the given number of threads."""
    set_num_threads(threads)
    return JOBS[library](*arguments)
