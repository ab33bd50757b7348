"""Where real photographs, labels and weights are, and marks for the tests that need them.

They are not part of the project. The environment variable MINIFCN_DATA names their folder; without them, the
tests that need them are skipped.
"""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("MINIFCN_DATA", Path(__file__).parents[2] / "shared" / "data"))
WEIGHTS = DATA / "squeezenet1_0-imagenet.safetensors"
CLASS_NAMES = DATA / "imagenet_classes.txt"
CAMVID = DATA / "camvid"

needs_weights = pytest.mark.skipif(
    not WEIGHTS.exists(), reason="the ImageNet weights are not here (MINIFCN_DATA)"
)
needs_camvid = pytest.mark.skipif(not CAMVID.exists(), reason="CamVid is not here (MINIFCN_DATA)")
