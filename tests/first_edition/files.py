"""Files that the first edition of minifcn wrote, and the scores of its networks."""

import gzip
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def unpack(name, folder):
    """Write `classifier`, `fcn` or `checkpoint` to a folder, and return the path of the safetensors file."""
    file = Path(folder) / f"{name}.safetensors"
    file.write_bytes(gzip.decompress((HERE / f"{name}.safetensors.gz").read_bytes()))
    return file


def expected():
    """Return the image, uint8 (32, 32, 1), and the scores by name; see README.md."""
    with np.load(HERE / "expected.npz") as stored:
        return dict(stored)
