"""Figures that commands write."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minifcn import viz
from minifcn.data import Dataset
from minifcn.files import atomic_write
from minifcn.layers import Layer
from minifcn.training import label


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of Matplotlib as PNG, with little compression: more takes as long as drawing."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", pil_kwargs={"compress_level": 1})


def save_strips(dataset: Dataset, indices: Iterable[int], model: Layer, path: Path) -> None:
    """Draw items of a dataset, each with its labels and the labels that a network predicts."""
    images, labels = zip(*(dataset[index] for index in indices), strict=True)
    found = [label(model, image) for image in images]
    strips = viz.prediction_strips(images, labels, found, dataset.class_names, dataset.palette)
    save_figure(strips, path)
