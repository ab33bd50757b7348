"""Small datasets in files with the layout of the real ones."""

import numpy as np

from minifcn.data.known_datasets import voc_colors
from tests.data.pictures import noise, write, write_palette


def camvid(root, names="abc", split="train", numbers=12):
    """CamVid's folders for one split, without its list."""
    for seed, name in enumerate(names):
        write(root / split / f"{name}.png", noise(6, 8, seed=seed))
        write(root / f"{split}annot" / f"{name}.png", noise(6, 8, 1, seed=seed) % numbers)
    return root


def voc(root, **lists):
    """VOC's folders, with images and masks for the names in the lists."""
    sets = root / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    for name, names in lists.items():
        (sets / f"{name}.txt").write_text("\n".join(names) + "\n")
        for entry in names:
            write(root / "JPEGImages" / f"{entry}.jpg", noise(6, 8))
            mask = noise(6, 8, 1, seed=len(entry)) % 21
            mask[0] = 255
            write_palette(root / "SegmentationClass" / f"{entry}.png", mask, voc_colors(256))
    return root


def folder(
    root, names="abcdefghij", *, image=(6, 8), classes=3, suffix=".png", images="images", masks="masks"
):
    """A folder of your own: images, and masks of values."""
    for seed, name in enumerate(names):
        write(root / images / f"{name}{suffix}", noise(*image, seed=seed))
        values = np.arange(image[0] * image[1], dtype=np.uint8).reshape(image) % classes
        write(root / masks / f"{name}.png", np.roll(values, seed))
    return root
