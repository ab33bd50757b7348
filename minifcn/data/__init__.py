"""Labelled images: what a dataset is, the known ones, other views of them, and the loader of batches."""

from minifcn.data.augment import Augment
from minifcn.data.camvid import CamVid
from minifcn.data.check import DatasetReport, Finding, check_dataset
from minifcn.data.counts import ClassCounts, class_counts, median_frequency_weights
from minifcn.data.dataset import Dataset
from minifcn.data.digits import DigitCanvases, DigitCrops, digit_images
from minifcn.data.errors import DataError
from minifcn.data.files import FileDataset
from minifcn.data.folder import Folder
from minifcn.data.images import read_image
from minifcn.data.lists import read_classes
from minifcn.data.loader import Loader
from minifcn.data.masks import read_labels
from minifcn.data.opening import dataset_splits, open_dataset
from minifcn.data.voc import VOC

__all__ = [
    "VOC",
    "Augment",
    "CamVid",
    "ClassCounts",
    "DataError",
    "Dataset",
    "DatasetReport",
    "DigitCanvases",
    "DigitCrops",
    "FileDataset",
    "Finding",
    "Folder",
    "Loader",
    "check_dataset",
    "class_counts",
    "dataset_splits",
    "digit_images",
    "median_frequency_weights",
    "open_dataset",
    "read_classes",
    "read_image",
    "read_labels",
]
