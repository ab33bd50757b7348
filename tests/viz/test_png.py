import io

import numpy as np
from PIL import Image

from minifcn.palette import palette
from minifcn.viz import overlay
from minifcn.viz._png import DPI, png_of


def test_small_swatches_of_a_legend_keep_their_colours():
    """On a grey canvas the few pixels of a swatch are the only ones of their colour."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(60, 200, (48, 96), np.uint8)
    labels = np.zeros((48, 96), np.uint8)
    for k in range(1, 9):
        labels[5:40, 10 * k : 10 * k + 5] = k
    figure = overlay(canvas, labels, [f"class {k}" for k in range(9)], palette(9))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    with Image.open(drawn) as large, Image.open(io.BytesIO(png_of(figure))) as small:
        off = np.abs(np.array(small.convert("RGB")).astype(int) - np.array(large.convert("RGB")))
    assert off.max() <= 16
