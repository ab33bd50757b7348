"""Real photographs, labels and weights: where they are, and the mark of tests that need them.

They do not come with the project. MINIFCN_DATA names their folder; tests that need one of them are skipped
where it is not there.
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
