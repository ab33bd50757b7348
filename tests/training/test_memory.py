import os
import re
import subprocess
import sys

import pytest

from minifcn.models import FCN, digit_classifier, dilated_resnet50, resnet101, squeezenet1_0
from minifcn.models.tiling import smallest_tile, tiles
from minifcn.optim import SGD, Adam
from minifcn.training import memory
from minifcn.training.memory import (
    available_memory,
    available_on,
    check_inference,
    check_memory,
    check_step,
    inference_memory,
    tile_size,
    training_memory,
)

MEMINFO = "MemTotal:       16000000 kB\nMemFree:  1 kB\nMemAvailable:    8000000 kB\n"


def system(root, **files):
    for name, text in files.items():
        path = (
            root
            / {
                "meminfo": "proc/meminfo",
                "max": "sys/fs/cgroup/memory.max",
                "current": "sys/fs/cgroup/memory.current",
                "stat": "sys/fs/cgroup/memory.stat",
                "limit": "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "usage": "sys/fs/cgroup/memory/memory.usage_in_bytes",
                "old_stat": "sys/fs/cgroup/memory/memory.stat",
            }[name]
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"meminfo": MEMINFO}, 8_192_000_000),
        ({"meminfo": MEMINFO, "max": "max\n", "current": "5\n"}, 8_192_000_000),
        ({"meminfo": MEMINFO, "max": "3000\n", "current": "1000\n"}, 2000),
        (
            {"meminfo": MEMINFO, "max": "3000\n", "current": "1000\n", "stat": "anon 1\ninactive_file 500\n"},
            2500,
        ),
        ({"max": "3000\n", "current": "4000\n"}, 0),
        (
            {"limit": "3000\n", "usage": "1000\n", "old_stat": "inactive_file 1\ntotal_inactive_file 200\n"},
            2200,
        ),
        ({"meminfo": MEMINFO, "limit": "9223372036854771712\n", "usage": "1000\n"}, 8_192_000_000),
    ],
)
def test_free_memory_is_read_from_the_system(tmp_path, files, expected):
    assert available_memory(system(tmp_path, **files)) == expected


def test_on_other_systems_it_is_the_memory_of_the_machine(tmp_path):
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        pytest.skip("this system does not say")
    assert available_memory(tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_this_machine_has_some_free_memory():
    assert 1e7 < available_on("cpu") < 1e14


def test_more_than_the_free_memory_is_refused_with_advice():
    with pytest.raises(
        ValueError, match=r"^a step takes about 3,000 MB, and 2,000 MB are free: take 2e\+09$"
    ):
        check_memory(3 * 10**9, "a step", lambda free: f"take {free:.0e}", 2 * 10**9)


def test_less_than_the_free_memory_is_accepted():
    fits = check_memory(1_500_000_000, "a step", str, 2_000_000_000)
    assert fits == "a step takes about 1,500 MB of 2,000 MB that are free"
    assert check_memory(10**9, "a step", str, None) == "a step takes about 1,000 MB"


def network():
    model = FCN(digit_classifier(rng=0), 11, 2)
    return model, Adam(model, 0.1)


def refusal(monkeypatch, free, check):
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    with pytest.raises(ValueError, match=" MB are free: ") as raised:
        check()
    return str(raised.value)


@pytest.mark.parametrize("fits", range(1, 8))
def test_the_largest_batch_that_fits_is_named(monkeypatch, fits):
    model, adam = network()
    takes = {n: training_memory(model, adam, n, (60, 80)) for n in range(1, 9)}
    for free in (takes[fits], takes[fits + 1] - 1):
        largest = max(n for n in range(1, 8) if takes[n] <= free)  # another algorithm may take less for more
        word = refusal(monkeypatch, free, lambda: check_step(model, adam, 8, 16, (60, 80), "cpu"))
        assert f": batch size {largest} would fit (accumulate {16 // largest} " in word
    monkeypatch.setattr(memory, "available_memory", lambda: training_memory(model, adam, fits, (60, 80)))
    assert "a step on" in check_step(model, adam, fits, 16, (60, 80), "cpu")


def test_where_not_one_image_fits_the_largest_crop_is_named(monkeypatch):
    model, adam = network()
    free = training_memory(model, adam, 1, (300, 400)) - 1
    word = refusal(monkeypatch, free, lambda: check_step(model, adam, 8, 8, (600, 800), "cpu"))
    width, height = map(int, re.search(r"crop of (\d+) x (\d+) with batch size 1 ", word).groups())
    assert 300 < width < 400
    assert 0.74 < height / width < 0.76
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    assert check_step(model, adam, 1, 8, (height, width), "cpu")
    assert "take a smaller network" in refusal(
        monkeypatch, 1000, lambda: check_step(model, adam, 8, 8, (600, 800), "cpu")
    )


def test_the_largest_image_that_can_be_labelled_is_named(monkeypatch):
    model, _ = network()
    free = inference_memory(model, (300, 400))

    def check(size):
        return check_inference(model, "an image", size, "cpu")

    word = refusal(monkeypatch, free, lambda: check((600, 800)))
    width, height = map(int, re.search(r"make it smaller: (\d+) x (\d+) would fit", word).groups())
    assert 400 <= width < 500  # a larger image may need less workspace
    assert 0.74 < height / width < 0.76
    monkeypatch.setattr(memory, "available_memory", lambda: free)
    check((height, width))
    assert refusal(monkeypatch, 10, lambda: check((600, 800))).endswith(" are free: make it smaller")


@pytest.mark.parametrize("make", [digit_classifier, squeezenet1_0, dilated_resnet50, resnet101])
def test_at_least_half_of_a_tile_is_not_computed_twice(make):
    """Else deep networks, which see far, would compute thousands of times as much as for the whole image."""
    model = FCN(make(init="zeros"), 3)
    size = tile_size(model, (20_000, 20_000))
    assert size >= 2 * smallest_tile(model)
    crop, core = next((t.crop[1], t.core[1]) for t in tiles(model, (1, 9 * size), size) if t.crop[1].start)
    assert core.stop - core.start >= 0.49 * (crop.stop - crop.start)


def test_larger_steps_need_more():
    model = FCN(digit_classifier(rng=0), 11, 2)
    parameters = dict(model.named_parameters())
    sgd, adam = SGD(parameters, 0.1, momentum=0.9), Adam(parameters, 0.1)

    def needed(optimizer=sgd, batch_size=2, size=(60, 80)):
        return training_memory(model, optimizer, batch_size, size)

    weights = sum(parameter.data.nbytes for parameter in parameters.values())
    assert needed(adam) - needed(sgd) == pytest.approx(weights, rel=0.1)
    assert needed(batch_size=4) > needed() > needed(size=(30, 40))
    whole = needed(batch_size=8)
    model.freeze_trunk()
    assert needed(batch_size=8) < 0.7 * whole


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are measured as Linux counts them")
def test_the_prediction_is_what_a_step_takes():
    """In its own process, whose peak is that of the step."""
    code = """
from pathlib import Path
import numpy as np
from minifcn.losses import softmax_cross_entropy
from minifcn.models import FCN, digit_classifier
from minifcn.optim import SGD
from minifcn.training.memory import training_memory
model = FCN(digit_classifier(), 11, 2)
optimizer = SGD(model, 1e-3, momentum=0.9)
def step(size):
    x, labels = np.zeros((2, 1, *size), np.float32), np.zeros((2, *size), np.uint8)
    loss, dscores = softmax_cross_entropy(model(x), labels)
    model.backward(dscores)
    optimizer.step()
    optimizer.zero_grad()
step((64, 64))
def peak():  # of this program alone: what getrusage says begins with the peak of the one that started it
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])
before = peak()
step((600, 800))
print(peak() - before, training_memory(model, optimizer, 2, (600, 800)))
"""
    environment = os.environ | {"MINIFCN_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    measured, predicted = map(int, result.stdout.split())
    assert 0.7 < measured / predicted < 1.1, (measured, predicted)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_crop_that_would_fit_is_named_with_its_batch_size(monkeypatch, batch_size):
    model, adam = network()
    free = training_memory(model, adam, 1, (60, 80)) - 1
    word = refusal(
        monkeypatch, free, lambda: check_step(model, adam, batch_size, batch_size, (60, 80), "cpu")
    )
    assert " would fit, or freeze the trunk" in word
    assert ("with batch size 1 would fit" in word) == (batch_size > 1)
