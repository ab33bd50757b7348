"""`minifcn train` and `minifcn predict` as whole processes, beside the same work in PyTorch.

    python benchmarks/commands.py CAMVID    # a folder of the dataset; 40 + 10 of its images are used

Training: FCN-4s of SqueezeNet with random weights, two epochs of recipe "quick". Predictions: masks and
overlays of 20 photographs. The overlays of minifcn have a legend, borders and the names of the classes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from beside import processor, without_overrides

TORCH = Path(__file__).with_name("torch_commands.py")


def subset(root: Path, into: Path, images: dict[str, int]) -> list[Path]:
    """Copy the first images of each split of CamVid, and return the paths of all images."""
    found = []
    for split, count in images.items():
        lines = (root / f"{split}.txt").read_text().splitlines()[:count]
        (into / f"{split}.txt").write_text("\n".join(lines) + "\n")
        for path in (Path(*Path(part).parts[-2:]) for line in lines for part in line.split()):
            (into / path).parent.mkdir(exist_ok=True)
            shutil.copy(root / path, into / path)
            if path.parent.name == split:
                found.append(into / path)
    return found


def run(command: list[str]) -> float:
    """Return the seconds that a process takes."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=without_overrides(os.environ))
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:6])} ... failed: {done.stderr[-500:]}")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("camvid", type=Path, help="folder with train.txt and val.txt")
    parser.add_argument("--runs", type=int, default=3, help="of each command")
    parser.add_argument("--only", choices=("train", "predict"))
    arguments = parser.parse_args()
    ours, theirs = [sys.executable, "-m", "minifcn"], [sys.executable, str(TORCH)]
    print(processor())
    with tempfile.TemporaryDirectory() as folder:
        data, here = Path(folder) / "data", Path(folder)
        data.mkdir()
        photos = list(map(str, subset(arguments.camvid, data, {"train": 40, "val": 10})[:20]))
        training = [f"camvid:{data}", "--model", "squeezenet1_0", "--from-scratch", "--epochs", "2"]
        seconds: dict[str, tuple[list[float], list[float]]] = {"train": ([], []), "predict": ([], [])}
        for i in range(arguments.runs if arguments.only != "predict" else 1):
            seconds["train"][0].append(run([*ours, "train", *training, "--out", str(here / f"ours{i}")]))
            seconds["train"][1].append(run([*theirs, "train", str(data), str(here / f"theirs{i}")]))
        for i in range(arguments.runs if arguments.only != "train" else 0):
            model, out = str(here / "ours0" / "model.safetensors"), str(here / f"ours-predicted{i}")
            seconds["predict"][0].append(run([*ours, "predict", model, *photos, "--out", out]))
            model, out = str(here / "theirs0" / "best.pt"), str(here / f"theirs-predicted{i}")
            seconds["predict"][1].append(run([*theirs, "predict", model, out, *photos]))
    print(f"{'command':10}{'minifcn':>10}{'PyTorch':>10}{'ratio':>8}   seconds of whole processes, medians")
    for name, taken in seconds.items():
        if all(taken):
            a, b = map(median, taken)
            print(f"{name:10}{a:10.2f}{b:10.2f}{a / b:8.2f}")


if __name__ == "__main__":
    main()
