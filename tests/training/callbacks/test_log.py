import json
import os

import pytest
from PIL import Image

from minifcn.training import Curve, Log, Training, fit
from minifcn.training.callbacks import log as module
from minifcn.training.callbacks.log import EpochLine
from tests.training.small import digits, parts, settings


def trained(*callbacks, **options):
    model, loader, optimizer = parts(digits)
    return fit(model, loader, optimizer, **settings(loader) | options, callbacks=callbacks)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_log_keeps_its_earlier_contents(tmp_path):
    path = tmp_path / "log"
    first = trained(log=path)
    second = trained(log=path)
    assert lines(path) == first + second


def test_earlier_contents_of_a_log_need_not_be_text(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"b\xf6den\n")
    trained(Log(path))
    assert path.read_bytes().startswith(b"b\xf6den\n{")


def test_a_log_on_a_full_disk_is_completed_later(tmp_path, monkeypatch, capsys):
    path, real, calls = tmp_path / "log", module.atomic_write, []

    def atomic_write(target):
        calls.append(target)
        if len(calls) in (2, 3):  # after the start: the first and the second epoch
            raise OSError(28, "No space left on device")
        return real(target)

    monkeypatch.setattr(module, "atomic_write", atomic_write)
    records = trained(Log(path))
    assert lines(path) == records
    assert (
        capsys.readouterr().err.count(f"the log {path} could not be written: No space left on device\n") == 2
    )


def test_a_curve_is_drawn_after_each_epoch(tmp_path):
    seen = []

    class Look(Curve):
        def epoch(self, training):
            super().epoch(training)
            with Image.open(self.path) as picture:
                picture.load()
            seen.append(self.path.read_bytes())

    trained(Look(tmp_path / "curve.png"))
    assert len(set(seen)) == 3
    assert os.listdir(tmp_path) == ["curve.png"]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            {"mean_iou": 0.25, "pixel_accuracy": 0.5, "mean_accuracy": None},
            "epoch  2 of 15: loss 1.5000, pixel accuracy 0.5000, mean IoU 0.2500, "
            "8.1 s at 2.0 images/s, best so far",
        ),
        (
            {"mean_iou": 0.25, "pixel_accuracy": 0.5, "classes_in_mean_iou": 1},
            "epoch  2 of 15: loss 1.5000, pixel accuracy 0.5000, mean IoU 0.2500 over 1 of 2 classes, "
            "8.1 s at 2.0 images/s, best so far",
        ),
        (
            {"mean_iou": 0.1, "classes_in_mean_iou": 2},
            "epoch  2 of 15: loss 1.5000, mean IoU 0.1000, 8.1 s at 2.0 images/s",
        ),
        (
            {"mean_iou": None, "classes_in_mean_iou": 0},
            "epoch  2 of 15: loss 1.5000, 8.1 s at 2.0 images/s",
        ),
        ({"mean_iou": 0.1}, "epoch  2 of 15: loss 1.5000, mean IoU 0.1000, 8.1 s at 2.0 images/s"),
        ({}, "epoch  2 of 15: loss 1.5000, 8.1 s at 2.0 images/s"),
    ],
)
def test_the_line_of_an_epoch(record, line):
    model, loader, optimizer = parts(digits)
    said = []
    known = {"epoch": 2, "loss": 1.5, "seconds": 8.1, "images_per_second": 2.0}
    training = Training(model, loader, optimizer, 15, records=[{"mean_iou": 0.2}, known | record])
    EpochLine(said.append).epoch(training)
    assert said == [line]
