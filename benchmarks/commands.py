"""`minifcn train` and `minifcn predict` as whole processes, beside the same work in PyTorch.

    python benchmarks/commands.py CAMVID    # a folder of the dataset; 40 + 10 of its images are used

Training: FCN-4s of SqueezeNet with random weights, two epochs of recipe "quick". Predictions: masks and
overlays of 20 photographs. The overlays of minifcn have a legend, borders and the names of the classes;
those of PyTorch's side are blended by Pillow ("predict"), or drawn by Matplotlib with a legend ("draw").
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
    arguments = parser.parse_args()
    ours, theirs = [sys.executable, "-m", "minifcn"], [sys.executable, str(TORCH)]
    print(processor())
    print(f"{'command':10}{'minifcn':>10}{'PyTorch':>10}{'ratio':>8}   seconds of whole processes, medians")
    with tempfile.TemporaryDirectory() as folder:
        data, here = Path(folder) / "data", Path(folder)
        data.mkdir()
        photos = list(map(str, subset(arguments.camvid, data, {"train": 40, "val": 10})[:20]))
        training = ["train", f"camvid:{data}", "--model", "squeezenet1_0", "--from-scratch", "--epochs", "2"]
        models = str(here / "train-ours-0" / "model.safetensors"), str(here / "train-theirs-0" / "best.pt")
        for name in ("train", "predict", "draw"):
            seconds: tuple[list[float], list[float]] = ([], [])
            for i in range(arguments.runs):
                a, b = (str(here / f"{name}-{side}-{i}") for side in ("ours", "theirs"))
                if name == "train":
                    commands = [*ours, *training, "--out", a], [*theirs, name, str(data), b]
                else:
                    commands = (
                        [*ours, "predict", models[0], *photos, "--out", a],
                        [*theirs, name, models[1], b, *photos],
                    )
                for taken, command in zip(seconds, commands, strict=True):
                    taken.append(run(command))
            a_median, b_median = map(median, seconds)
            print(f"{name:10}{a_median:10.2f}{b_median:10.2f}{a_median / b_median:8.2f}", flush=True)


if __name__ == "__main__":
    main()
