"""What `commands.py` compares the commands with: the same training and the same predictions in PyTorch.

    python benchmarks/torch_commands.py train CAMVID OUT
    python benchmarks/torch_commands.py predict OUT/best.pt OUT IMAGE...    # overlays blended by Pillow
    python benchmarks/torch_commands.py draw OUT/best.pt OUT IMAGE...       # drawn by Matplotlib

FCN-4s of SqueezeNet with random weights, and recipe "quick" of minifcn: Adam with a warm-up and a rate that
falls to zero, the mean over pixels, four images in a batch, random flips, validation after each epoch.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torch_networks import network

NAME, CLASSES, VOID = "fcn4s-squeezenet", 11, 255
MEAN, STD = np.float32([123.7, 116.8, 103.9]), np.float32([58.4, 57.1, 57.4])


class CamVid(Dataset[Any]):
    def __init__(self, root: Path, split: str, flips: bool):
        lines = (root / f"{split}.txt").read_text().splitlines()
        self.pairs = [[root.joinpath(*Path(p).parts[-2:]) for p in line.split()] for line in lines]
        self.flips = flips

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, labels = (np.array(Image.open(path)) for path in self.pairs[index])
        labels[labels == CLASSES] = VOID
        if self.flips and torch.rand(()) < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        return preprocessed(image), torch.from_numpy(labels.astype(np.int64))


def preprocessed(image: np.ndarray) -> Any:
    """Return float32 (3, H, W) of uint8 (H, W, 3)."""
    return torch.from_numpy(((image - MEAN) / STD).transpose(2, 0, 1).copy())


def train(root: Path, out: Path, epochs: int = 2) -> None:
    torch.manual_seed(0)
    loader = DataLoader(CamVid(root, "train", flips=True), 4, shuffle=True, num_workers=2)
    validation = DataLoader(CamVid(root, "val", flips=False), 1, num_workers=2)
    net = network(NAME)
    scores = [*net.score.parameters(), *net.skips.parameters()]  # type: ignore[operator, union-attr]
    others = [p for p in net.parameters() if all(p is not q for q in scores)]
    groups = [{"params": others}, {"params": scores, "lr": 1e-3}]
    optimizer = torch.optim.Adam(groups, 2e-4, weight_decay=1e-4)
    steps = epochs * len(loader)
    warmup = min(100, steps // 3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (1 - step / steps) ** 0.9)
    )
    best, log = -1.0, []
    for epoch in range(epochs):
        net.train()
        losses = []
        for images, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), labels, ignore_index=VOID)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        iou = evaluate(net, validation)
        log.append({"epoch": epoch + 1, "loss": sum(losses) / len(losses), "mean_iou": iou})
        print(log[-1])
        torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, out / "last.pt")
        if iou > best:
            best = iou
            torch.save(net.state_dict(), out / "best.pt")
    (out / "log.json").write_text(json.dumps(log))


def evaluate(net: Any, validation: Any) -> float:
    """Return the mean IoU."""
    net.eval()
    counts = torch.zeros(CLASSES * CLASSES, dtype=torch.int64)
    with torch.inference_mode():
        for images, labels in validation:
            known = labels != VOID
            pairs = labels[known] * CLASSES + net(images).argmax(1)[known]
            counts += torch.bincount(pairs, minlength=CLASSES * CLASSES)
    matrix = counts.reshape(CLASSES, CLASSES).double()
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return float((matrix.diagonal() / union)[matrix.sum(1) > 0].mean())


def predict(model: Path, out: Path, paths: list[Path], drawn: bool) -> None:
    net = network(NAME).eval()
    net.load_state_dict(torch.load(model))
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    for path in paths:
        image = np.array(Image.open(path).convert("RGB"))
        with torch.inference_mode():
            labels = net(preprocessed(image)[None])[0].argmax(0).numpy().astype(np.uint8)
        mask = Image.fromarray(labels)
        mask.putpalette(palette.tobytes())
        mask.save(out / f"{path.stem}-mask.png")
        overlay = Image.blend(Image.fromarray(image), mask.convert("RGB"), 0.5)
        if drawn:
            draw(overlay, labels, palette, out / f"{path.stem}-overlay.png")
        else:
            overlay.save(out / f"{path.stem}-overlay.png")
        print(path, np.bincount(labels.ravel(), minlength=CLASSES).tolist())


def draw(overlay: Image.Image, labels: np.ndarray, palette: np.ndarray, path: Path) -> None:
    """Write an overlay with a legend of the classes in it."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(7, 5.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.imshow(overlay)
    axes.set_axis_off()
    handles = [Patch(facecolor=palette[k] / 255, label=f"class {k}") for k in np.unique(labels)]
    figure.legend(handles=handles, loc="outside lower center", ncols=6)
    figure.savefig(path)


if __name__ == "__main__":
    command, *given = sys.argv[1:]
    folders = [Path(path) for path in given]
    folders[1].mkdir(parents=True, exist_ok=True)
    if command == "train":
        train(folders[0], folders[1])
    else:
        predict(folders[0], folders[1], folders[2:], drawn=command == "draw")
