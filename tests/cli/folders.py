"""A folder of images and masks for the smallest training."""

import numpy as np
from PIL import Image

SCRATCH = ["--model", "digit_classifier", "--from-scratch", "--lr", "3e-3"]


def photographs(root, count=8, size=(36, 48), classes="ground\nblob"):
    """Write `images/`, `masks/` and `classes.txt`; two in eight are for validation."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng(i)
        image = rng.integers(0, 90, (*size, 3), np.uint8)
        mask = np.zeros(size, np.uint8)
        top, left = rng.integers(4, 14, 2)
        mask[top : top + 14, left : left + 18] = 1
        image[mask == 1] += np.array([140, 120, 60], np.uint8)
        mask[:2] = 255
        Image.fromarray(image).save(root / "images" / f"photo{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"photo{i}.png")
    (root / "classes.txt").write_text(classes)
    (root / "val.txt").write_text("photo6\nphoto7\n")
    (root / "train.txt").write_text("\n".join(f"photo{i}" for i in range(count) if i not in (6, 7)))
    return f"folder:{root}"
