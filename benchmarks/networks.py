"""The same networks in minifcn and in other libraries: functions that run a training step or an inference."""

import json
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from beside import Side, in_turn

from minifcn.kernels.threads import num_threads, set_num_threads

Job = Callable[[], Any]


class Network(NamedTuple):
    """How minifcn builds a network, and how it is measured.

    Attributes:
        builder: Name of the classifier, or of a whole network, in `minifcn.models`.
        classes: Number of classes.
        stride: Of the FCN, or `None` for a whole network.
        lr: Rate of the training step.
        batches: Sizes of the batch in the table.
    """

    builder: str
    classes: int
    stride: int | None
    lr: float
    batches: tuple[int, ...] = (1,)


NETWORKS = {
    "fcn4s-squeezenet": Network("squeezenet1_0", 11, 4, 2e-4, (1, 4)),
    "fcn8s-vgg16": Network("vgg16", 21, 8, 1e-6),
    "fcn8s-resnet50": Network("resnet50", 21, 8, 1e-5),
    "fcn_resnet50": Network("fcn_resnet50", 21, None, 1e-5),
}


def inputs(name: str, batch: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return random images, float32 (N, 3, H, W), and labels, uint8 (N, H, W)."""
    rng = np.random.default_rng(0)
    x = 50 * rng.standard_normal((batch, 3, *size), np.float32)
    return x, rng.integers(0, NETWORKS[name].classes, (batch, *size)).astype(np.uint8)


def minifcn_network(name: str) -> Any:
    """Return a network of minifcn with random weights."""
    import minifcn as mf

    builder, classes, stride, *_ = NETWORKS[name]
    build = getattr(mf.models, builder)
    return build(classes, rng=0) if stride is None else mf.models.FCN(build(rng=0), classes, stride)


def minifcn_step(fcn: Any, name: str, x: Any, labels: Any) -> Job:
    """Return a function that runs a training step."""
    import minifcn as mf

    optimizer = mf.optim.Adam(fcn.train(), NETWORKS[name].lr)

    def step() -> float:
        loss, dscores = mf.losses.softmax_cross_entropy(fcn(x), labels)
        fcn.backward_parameters(dscores)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def minifcn_job(name: str, what: str, batch: int, size: tuple[int, int], device: str = "cpu") -> Job:
    """Return a function that runs an inference or a training step in minifcn."""
    import minifcn as mf

    x, labels = (mf.to_device(array, device) for array in inputs(name, batch, size))
    fcn = minifcn_network(name).to(device).eval()
    return (lambda: fcn(x)) if what == "inference" else minifcn_step(fcn, name, x, labels)


def torch_job(
    name: str,
    what: str,
    batch: int,
    size: tuple[int, int],
    device: str = "cpu",
    *,
    channels_last: bool = False,
    compiled: bool = False,
) -> Job:
    """Return a function that runs the same in PyTorch."""
    import torch
    from torch_networks import network

    torch.set_num_threads(num_threads())
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, labels = inputs(name, batch, size)
    images = torch.tensor(x, device=device).contiguous(memory_format=layout)
    truth = torch.tensor(labels.astype(np.int64), device=device)
    net = network(name).to(device, memory_format=layout)
    # With its own choice of layouts, PyTorch 2.13 fails to compile the backward pass of the upsampling.
    options = {"layout_optimization": False} if what == "training" else None
    forward: Any = torch.compile(net, options=options) if compiled else net
    if what == "inference":
        net.eval()

        def infer() -> Any:
            with torch.inference_mode():
                return forward(images)

        return infer
    optimizer = torch.optim.Adam(net.parameters(), NETWORKS[name].lr)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(images), truth)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def channels_last_job(name: str, what: str, batch: int, size: tuple[int, int]) -> Job:
    """Return a function that runs the same in PyTorch, with channels last in memory."""
    return torch_job(name, what, batch, size, channels_last=True)


def compiled_job(name: str, what: str, batch: int, size: tuple[int, int]) -> Job:
    """Return a function that runs the same in PyTorch, compiled; this needs a C++ compiler."""
    return torch_job(name, what, batch, size, compiled=True)


def onnxruntime_job(name: str, what: str, batch: int, size: tuple[int, int]) -> Job:
    """Return a function that runs the network that minifcn exports in onnxruntime."""
    import onnxruntime as ort

    import minifcn as mf

    x, _ = inputs(name, batch, size)
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        mf.weights.save_onnx(minifcn_network(name), path)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": x})


JOBS = {
    "minifcn": minifcn_job,
    "eager": torch_job,
    "channels_last": channels_last_job,
    "compile": compiled_job,
    "onnxruntime": onnxruntime_job,
}
"""What is compared: eager PyTorch, with channels last, compiled; and onnxruntime, which only infers."""


def installed() -> list[str]:
    """Return the names of the sides whose libraries are installed."""
    torch = ["eager", "channels_last", "compile"] if find_spec("torch") else []
    return ["minifcn", *torch, *(["onnxruntime"] if find_spec("onnxruntime") and find_spec("onnx") else [])]


class Comparison:
    """Times a network in several libraries, each in a process of its own, in turns.

    Attributes:
        results: The seconds of all runs and the peaks of memory, for each case.
        errors: Why a library could not run a case.
    """

    def __init__(self, libraries: list[str], turns: int, seconds: float) -> None:
        self.libraries, self.turns, self.seconds = libraries, turns, seconds
        self.results: list[dict[str, Any]] = []
        self.errors: list[str] = []

    @property
    def head(self) -> str:
        """The head of the lines that `time` returns."""
        names = "".join(f"{name:>14}" for name in self.libraries)
        return f"{names}{'/ eager':>9}{'/ best':>8}   peak MB of each"

    def time(self, name: str, what: str, batch: int, size: tuple[int, int], threads: int) -> str:
        """Time one case; return a line: medians in ms, ratios to eager PyTorch and the best rival, peaks."""
        sides: dict[str, Side] = {}
        for library in self.libraries:
            if library == "onnxruntime" and what == "training":
                continue
            side = Side()
            try:
                side.make(_with_threads, threads, library, name, what, batch, size)
                sides[library] = side
            except Exception as error:  # such as a compiler that fails: the others are timed all the same
                reason = str(error).strip().partition("\n")[0]
                self.errors.append(f"{library}, {name}, {what}: {type(error).__name__}: {reason[:200]}")
                side.close()
        seconds = in_turn(sides, self.turns, self.seconds)
        peaks = {library: side.peak_mb() for library, side in sides.items()}
        for side in sides.values():
            side.close()
        case = {"network": name, "what": what, "batch": batch, "size": size, "threads": threads}
        self.results.append({**case, "seconds": seconds, "peak_mb": peaks})
        times = {library: 1e3 * median(some) for library, some in seconds.items()}
        line = "".join(f"{times[one]:14.1f}" if one in times else f"{'-':>14}" for one in self.libraries)
        eager, best = (ratio(self.results[-1]["seconds"], rivals) for rivals in (["eager"], self.libraries))
        return f"{line}{eager:9.2f}{best:8.2f}   " + " ".join(f"{peak:.0f}" for peak in peaks.values())

    def write(self, path: str | None) -> None:
        """Write the raw results as JSON, if a path is given."""
        if path:
            with open(path, "w") as file:
                json.dump(self.results, file, indent=1)

    def plot(self, path: str | None) -> None:
        """Draw times as fractions of the best rival's, and peaks of eager PyTorch's, if a path is given."""
        if not path:
            return
        from matplotlib.figure import Figure

        shares = {
            "time, minifcn / best other": [ratio(case["seconds"], list(JOBS)) for case in self.results],
            "peak memory, minifcn / PyTorch": [ratio(case["peak_mb"], ["eager"]) for case in self.results],
        }
        figure = Figure(figsize=(9, 1 + len(self.results) / 4), dpi=100, layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        places = range(len(self.results))
        looks = {"color": "#9CC7E8", "hatch": "//"}, {"color": "#D9B382"}
        for ax, (title, values), look in zip(axes, shares.items(), looks, strict=True):
            ax.barh(places, values, edgecolor="0.3", linewidth=0.6, **look)
            ax.axvline(1, color="black", linewidth=1)
            ax.set(title=title, xlim=(0, 1.2 * max(*values, 1)))
            for place, value in zip(places, values, strict=True):
                label = ax.text(value + 0.02, place, f"{value:.2f}", va="center", fontsize=8)
                label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
        names = [f"{case['network']}, {case['what']}, batch {case['batch']}" for case in self.results]
        axes[0].set_yticks(places, names, fontsize=8)
        axes[0].invert_yaxis()
        figure.savefig(path)


def ratio(measured: dict[str, Any], rivals: list[str]) -> float:
    """Return minifcn's median divided by the least one of the rivals that were measured, or NaN."""
    medians = {name: float(np.median(values)) for name, values in measured.items()}
    others = [medians[name] for name in rivals if name in medians and name != "minifcn"]
    return medians["minifcn"] / min(others) if others and "minifcn" in medians else float("nan")


def _with_threads(threads: int, library: str, *arguments: Any) -> Job:
    """Return a job of a library that uses the given number of threads."""
    set_num_threads(threads)
    return JOBS[library](*arguments)
