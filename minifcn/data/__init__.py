"""Labelled images: datasets, reading and checking their files, augmentation, and the loader of batches."""

from minifcn.data.augment import Augment
from minifcn.data.check import DatasetReport, Finding, check_dataset
from minifcn.data.class_weights import ClassCounts, class_counts, median_frequency_weights
from minifcn.data.classes import read_classes
from minifcn.data.dataset import Dataset, FileDataset
from minifcn.data.digits import DigitCanvases, DigitCrops, digit_images
from minifcn.data.errors import DataError
from minifcn.data.folder import Folder
from minifcn.data.images import images_in, photograph, read_image
from minifcn.data.known_datasets import VOC, CamVid, dataset_splits, open_dataset
from minifcn.data.loader import Loader
from minifcn.data.masks import read_labels

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
    "images_in",
    "median_frequency_weights",
    "open_dataset",
    "photograph",
    "read_classes",
    "read_image",
    "read_labels",
]
