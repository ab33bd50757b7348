"""Classifiers, and the fully convolutional networks made from them."""

# ruff: noqa: F403, F405 - each family lists its classifiers itself

from minifcn.models.alexnet import *
from minifcn.models.classifiers import Classifier
from minifcn.models.explaining import explain
from minifcn.models.explanation import Explanation
from minifcn.models.fcn import FCN
from minifcn.models.googlenet import *
from minifcn.models.info import ModelInfo, Preprocessing
from minifcn.models.mobilenet import *
from minifcn.models.registry import CLASSIFIERS, build, register
from minifcn.models.resnet import *
from minifcn.models.squeezenet import *
from minifcn.models.upsampling import AlignedUpsample
from minifcn.models.vgg import *

__all__ = [
    "FCN",
    "AlignedUpsample",
    "Classifier",
    "Explanation",
    "ModelInfo",
    "Preprocessing",
    "build",
    "explain",
    "register",
]
__all__ += [*CLASSIFIERS, "fcn_resnet50", "fcn_resnet101"]
