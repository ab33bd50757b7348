"""Small image files for tests."""

import numpy as np
from PIL import Image


def noise(height, width, channels=3, seed=0):
    """An image of random bytes, (H, W) for one channel."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, array, **options):
    """Write an array as an image file, and make its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def write_palette(path, indices, colors, **options):
    """Write an image file of indices and their palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(indices).convert("L")
    image.putpalette(np.asarray(colors, np.uint8).tobytes())
    image.save(path, **options)
    return path
