import numpy as np
import pytest
from PIL import Image

from minifcn.data import VOC, open_dataset
from minifcn.data.voc import voc_colors
from minifcn.files import FileError
from tests.data.folders import voc
from tests.data.pictures import noise, write


def names(dataset):
    return [dataset.item_name(i) for i in range(len(dataset))]


@pytest.fixture
def root(tmp_path):
    return voc(tmp_path / "VOCdevkit" / "VOC2012", train=["2007_01", "2007_02"], val=["2008_01", "2008_02"])


@pytest.mark.parametrize("up", [0, 1, 2])
def test_lists_name_pictures_and_masks(root, up):
    path = [root, *root.parents][up]
    dataset = VOC(path, "train")
    assert names(dataset) == ["2007_01", "2007_02"]
    assert names(VOC(path, "validation")) == ["2008_01", "2008_02"]
    image, labels = dataset[0]
    assert image.shape == (6, 8, 3)
    assert (labels[0] == 255).all()
    assert np.array_equal(labels[1:], (noise(6, 8, 1, seed=7) % 21)[1:])
    assert len(dataset.class_names) == 21
    assert (dataset.class_names[15], dataset.palette[15].tolist()) == ("person", [192, 128, 128])
    assert VOC.splits(path) == ("train", "validation")


def test_the_colour_map_is_vocs():
    """As published; 255 is the colour of outlines."""
    published = {1: (128, 0, 0), 6: (0, 128, 128), 8: (64, 0, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    colors = voc_colors(256)
    assert {index: tuple(colors[index].tolist()) for index in published} == published
    assert len(np.unique(colors, axis=0)) == 256


def test_masks_saved_as_colours_mean_the_same(root):
    file = root / "SegmentationClass" / "2007_01.png"
    before = VOC(root, "train")[0][1]
    with Image.open(file) as mask:
        mask.convert("RGB").save(file)
    assert np.array_equal(VOC(root, "train")[0][1], before)


def test_what_is_missing_is_named(root):
    (root / "SegmentationClass" / "2007_02.png").unlink()
    with pytest.raises(FileError, match=r"2007_02\.jpg: has no mask .*2007_02\.png"):
        VOC(root, "train")
    (root / "JPEGImages" / "2008_01.jpg").unlink()
    with pytest.raises(FileError, match=r"2008_01\.jpg: is listed, but there is no such image"):
        VOC(root, "validation")
    with pytest.raises(FileError, match=r"test\.txt: is not there"):
        VOC(root, "test")
    with pytest.raises(FileError, match="has no folder JPEGImages"):
        VOC(root / "JPEGImages", "train")


def test_sbd_as_released_adds_all_but_the_validation_pictures(root):
    savemat = pytest.importorskip("scipy.io").savemat
    sbd = root / "benchmark_RELEASE"
    (sbd / "dataset" / "cls").mkdir(parents=True)
    lists = {"train": ["2009_01", "2008_01", "2007_01"], "val": ["2009_02"]}
    for name, entries in lists.items():
        (sbd / "dataset" / f"{name}.txt").write_text("\n".join(entries))
        for entry in entries:
            labels = noise(6, 8, 1, seed=int(entry[-1]) + 40) % 21
            savemat(
                sbd / "dataset" / "cls" / f"{entry}.mat",
                {"GTcls": {"Segmentation": labels}},
                do_compression=True,
            )
    write(root / "JPEGImages" / "2009_01.jpg", noise(6, 8))
    write(sbd / "dataset" / "img" / "2009_02.jpg", noise(6, 8))  # SBD brings its own pictures
    for dataset in (
        VOC(root, "train", sbd),
        VOC(root, "train", sbd / "dataset"),
        open_dataset(f"voc+sbd:{root}", "train"),
    ):
        assert names(dataset) == ["2007_01", "2007_02", "2009_01", "2009_02"]
    for index, seed in ((2, 41), (3, 42)):
        image, labels = dataset[index]
        assert image.shape == (6, 8, 3)
        assert np.array_equal(labels, noise(6, 8, 1, seed=seed) % 21)
    assert (dataset[0][1][0] == 255).all()  # VOC's own mask, with outlines, not SBD's
    assert names(VOC(root, "validation", sbd)) == ["2008_01", "2008_02"]
    assert len(open_dataset(f"voc:{root}", "train")) == 2


def test_the_augmented_folder_of_png_masks(root):
    for entry in ("2007_01", "2008_02", "2009_07"):
        write(root / "SegmentationClassAug" / f"{entry}.png", np.full((6, 8), 9, np.uint8))
    write(root / "JPEGImages" / "2009_07.jpg", noise(6, 8))
    dataset = open_dataset(f"voc+sbd:{root.parent}", "train")
    assert names(dataset) == ["2007_01", "2007_02", "2009_07"]
    assert (dataset[2][1] == 9).all()


def test_sbd_that_is_not_there(root):
    with pytest.raises(
        FileError, match="has neither SegmentationClassAug nor, beside VOC, benchmark_RELEASE"
    ):
        open_dataset(f"voc+sbd:{root}", "train")
    (root / "empty").mkdir()
    with pytest.raises(FileError, match=r"has neither a folder cls of \.mat files nor masks"):
        VOC(root, "train", root / "empty")
    (root / "empty" / "cls").mkdir()
    with pytest.raises(FileError, match=r"has neither train\.txt nor val\.txt"):
        VOC(root, "train", root / "empty")
