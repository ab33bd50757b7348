"""Classifiers, and the fully convolutional networks made from them."""

from minifcn.models.alexnet import alexnet, caffenet
from minifcn.models.classifiers import Classifier, digit_classifier, vgg16
from minifcn.models.explaining import explain
from minifcn.models.explanation import Explanation
from minifcn.models.fcn import FCN
from minifcn.models.googlenet import googlenet
from minifcn.models.info import ModelInfo, Preprocessing
from minifcn.models.registry import build, register
from minifcn.models.squeezenet import squeezenet1_0, squeezenet1_1
from minifcn.models.upsampling import AlignedUpsample

__all__ = [
    "FCN",
    "AlignedUpsample",
    "Classifier",
    "Explanation",
    "ModelInfo",
    "Preprocessing",
    "alexnet",
    "build",
    "caffenet",
    "digit_classifier",
    "explain",
    "googlenet",
    "register",
    "squeezenet1_0",
    "squeezenet1_1",
    "vgg16",
]
