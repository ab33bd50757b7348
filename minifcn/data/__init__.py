"""Labelled images: what a dataset is, the built-in ones, and the loader that makes batches of them."""

from minifcn.data.dataset import Dataset
from minifcn.data.digits import DigitCanvases, DigitCrops, digit_images
from minifcn.data.loader import Loader

__all__ = ["Dataset", "DigitCanvases", "DigitCrops", "Loader", "digit_images"]
