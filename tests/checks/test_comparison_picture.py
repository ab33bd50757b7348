import io

import numpy as np
import pytest
from PIL import Image

from minifcn.checks.comparison_picture import DIFFERENCE, comparison_png


def difference_drawn(grid):
    """The right third of a picture, as numbers (height, width, 3): what is drawn of a difference."""
    png = comparison_png({"yours": grid, "expected": 0 * grid, DIFFERENCE: grid})
    with Image.open(io.BytesIO(png)) as opened:
        picture = np.asarray(opened.convert("RGB")).astype(int)
    return picture[:, 2 * picture.shape[1] // 3 + 3 :]


@pytest.mark.parametrize("error", [-18.0, 18.0])
def test_only_what_differs_is_tinted_whatever_its_sign(error):
    grid = np.zeros((3, 3))
    grid[1, 2] = error
    tinted = np.ptp(difference_drawn(grid), axis=2) > 20
    rows, cols = np.nonzero(tinted)
    assert 20 < np.ptp(rows) < 45, "one cell of some 30 pixels"
    assert 20 < np.ptp(cols) < 45
    assert cols.min() > tinted.shape[1] / 2


def test_no_difference_is_white():
    assert not (np.ptp(difference_drawn(np.zeros((2, 2))), axis=2) > 20).any()


@pytest.mark.parametrize("error", [-18.0, 18.0])
def test_in_a_large_grid_what_differs_is_bright_on_black(error):
    grid = np.zeros((20, 30))
    grid[5:15, 10:20] = error
    grey = difference_drawn(grid)[:, :, 0]
    height, width = grey.shape
    assert (grey[height // 2 - 10 : height // 2 + 10, width // 2 - 10 : width // 2 + 10] == 255).all()
    assert (grey == 0).mean() > 0.4
