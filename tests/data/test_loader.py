import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn.data import DigitCanvases, DigitCrops, Loader
from minifcn.files import FileError

MEAN = np.float32(7)


def preprocess(images):
    return (images.transpose(0, 3, 1, 2) - MEAN) / np.float32(2)


class Numbered:
    """Item i is filled with i + 1; sizes are as given, or all (2, 3)."""

    class_names = ("a", "b")
    palette = np.zeros((2, 3), np.uint8)

    def __init__(self, length, sizes=None, error_at=None):
        self.sizes = sizes or [(2, 3)] * length
        self.error_at = error_at
        self.asked = []

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        self.asked.append(index)
        if index == self.error_at:
            raise KeyError("lost")
        return np.full((*self.sizes[index], 1), index + 1, np.uint8), np.full(
            self.sizes[index], index, np.uint8
        )


class Listed(Numbered):
    def __init__(self, *items):
        super().__init__(len(items))
        self.items = items

    def __getitem__(self, index):
        return self.items[index]


def loader_of(length, batch_size=2, **options):
    return Loader(Numbered(length), batch_size, preprocess=preprocess, **options)


def stamped(image, labels, rng):
    """Return an image that shows what was drawn; half of them are twice as high."""
    times = rng.integers(1, 3)
    image, labels = (np.repeat(array, times, axis=0) for array in (image, labels))
    image[0] = rng.integers(256, size=image[0].shape)
    return image, labels


def numbers(loader, epochs):
    """Yield the bytes of each batch of so many epochs, and the state after it."""
    for _ in range(epochs):
        for x, labels in loader:
            yield (x.shape, x.tobytes(), labels.tobytes()), loader.state_dict()


def indices(batches):
    return [labels[:, 0, 0].tolist() for _, labels in batches]


def loader_threads():
    return [t for t in threading.enumerate() if t.name.startswith("minifcn-loader")]


def test_batches_are_network_input_and_labels():
    loader = loader_of(5)
    batches = list(loader)
    assert loader.workers == 2
    assert len(loader) == len(batches) == 3
    assert [x.shape for x, _ in batches] == [(2, 1, 2, 3), (2, 1, 2, 3), (1, 1, 2, 3)]
    assert indices(batches) == [[0, 1], [2, 3], [4]]
    for x, labels in batches:
        assert (x.dtype, labels.dtype) == (np.float32, np.uint8)
        assert np.array_equal(x[:, 0], (labels + 1 - MEAN) / 2)


def test_callers_may_change_batches():
    items = Listed(*[(np.ones((2, 2, 1), np.uint8), np.zeros((2, 2), np.uint8))] * 2)
    loader = Loader(items, 1, preprocess=preprocess)
    for x, labels in loader:
        x[:] = labels[:] = 9
    assert all((labels == 0).all() for _, labels in loader)


@given(
    length=st.integers(1, 30),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 2**40),
    workers=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_an_epoch_has_every_item_once_in_an_order_of_seed_and_epoch(length, batch_size, seed, workers):
    loader = loader_of(length, batch_size, shuffle=True, seed=seed, workers=workers)
    epochs = [indices(loader) for _ in range(3)]
    for batches in epochs:
        assert sorted(itertools.chain(*batches)) == list(range(length))
        assert len(batches) == len(loader)
        assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    other = loader_of(length, batch_size, shuffle=True, seed=seed, workers=0)
    assert [indices(other) for _ in range(3)] == epochs


def test_orders_differ_between_epochs_and_seeds():
    orders = [
        tuple(itertools.chain(*indices(loader)))
        for seed in (0, 1, 2)
        for loader in [loader_of(50, shuffle=True, seed=seed)]
        for _ in range(3)
    ]
    assert len(set(orders)) == 9
    plain = loader_of(50)
    assert [list(itertools.chain(*indices(plain))) for _ in range(2)] == [list(range(50))] * 2


@given(
    length=st.integers(1, 20),
    batch_size=st.integers(1, 6),
    stop_after=st.integers(0, 50),
    shuffle=st.booleans(),
    workers=st.integers(0, 2),
)
@settings(max_examples=60, deadline=None)
def test_a_resumed_run_equals_an_uninterrupted_one(length, batch_size, stop_after, shuffle, workers):
    def run(loader, epochs):
        for _ in range(epochs):
            for _, labels in loader:
                yield labels[:, 0, 0].tolist(), loader.state_dict()

    options = {"shuffle": shuffle, "seed": 3}
    whole = [batch for batch, _ in run(loader_of(length, batch_size, **options, workers=0), 3)]
    stop_after = min(stop_after, len(whole))
    first = loader_of(length, batch_size, **options, workers=workers)
    begun = list(itertools.islice(run(first, 3), stop_after))
    state = begun[-1][1] if begun else first.state_dict()
    assert all(type(value) is int for value in state.values())

    second = loader_of(length, batch_size, **options, workers=workers)
    second.load_state_dict(state)
    assert second.state_dict() == state
    rest = [batch for batch, _ in run(second, 3 - state["epoch"])]
    assert [batch for batch, _ in begun] + rest == whole
    assert second.state_dict() == {**state, "epoch": 3, "batches": 0}


def test_a_loop_left_early_starts_its_epoch_again():
    loader = loader_of(6, shuffle=True, seed=0)
    whole = indices(loader_of(6, shuffle=True, seed=0))
    first = next(iter(loader))
    assert first[1][:, 0, 0].tolist() == whole[0]
    assert loader.state_dict()["batches"] == 1
    assert indices(loader) == whole
    assert loader.state_dict()["epoch"] == 1


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6), st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_unequal_sizes_are_padded_with_the_mean_and_void(sizes, workers):
    loader = Loader(Numbered(len(sizes), sizes), len(sizes), preprocess=preprocess, workers=workers)
    ((x, labels),) = loader
    height, width = (max(size) for size in zip(*sizes, strict=True))
    assert x.shape == (len(sizes), 1, height, width)
    assert labels.shape == (len(sizes), height, width)
    for i, (h, w) in enumerate(sizes):
        inside = np.zeros((height, width), bool)
        inside[:h, :w] = True
        assert (x[i, 0][inside] == (i + 1 - MEAN) / 2).all()
        assert (x[i, 0][~inside] == 0).all()
        assert (labels[i][inside] == i).all()
        assert (labels[i][~inside] == 255).all()


def test_crops_give_one_label_per_image():
    crops = DigitCrops("validation", size=16)
    x, labels = next(iter(Loader(crops, 10, preprocess=preprocess)))
    assert (x.shape, labels.shape, labels.dtype) == ((10, 1, 16, 16), (10,), np.uint8)
    assert labels.tolist() == [int(crops[i][1]) for i in range(10)]
    assert np.array_equal(x[3], preprocess(crops[3][0][None])[0])


def test_batches_do_not_depend_on_the_number_of_workers():
    canvases = DigitCanvases("train", 12, size=(30, 40))
    runs = [
        [
            (x.tobytes(), labels.tobytes())
            for x, labels in Loader(canvases, 5, preprocess=preprocess, shuffle=True, seed=0, workers=workers)
        ]
        for workers in (0, 1, 4)
    ]
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_reaches_the_caller_with_the_index(workers):
    loader = Loader(Numbered(20, error_at=13), 2, preprocess=preprocess, workers=workers)
    seen = []
    with pytest.raises(RuntimeError, match="item 13 of the dataset: KeyError: 'lost'") as caught:
        seen.extend(indices([batch])[0] for batch in loader)
    assert isinstance(caught.value.__cause__, KeyError)
    assert seen == [[2 * i, 2 * i + 1] for i in range(6)]  # all batches before it were delivered
    assert not loader_threads()


@given(
    length=st.integers(1, 12),
    batch_size=st.integers(1, 5),
    stop_after=st.integers(0, 30),
    workers=st.integers(0, 2),
)
@settings(max_examples=40)
def test_a_resumed_run_draws_what_an_uninterrupted_one_does(length, batch_size, stop_after, workers):
    options = {"shuffle": True, "seed": 5, "augment": stamped}
    whole = [batch for batch, _ in numbers(loader_of(length, batch_size, **options, workers=0), 3)]
    first = loader_of(length, batch_size, **options, workers=workers)
    begun = list(itertools.islice(numbers(first, 3), min(stop_after, len(whole))))
    state = begun[-1][1] if begun else first.state_dict()
    second = loader_of(length, batch_size, **options, workers=workers)
    second.load_state_dict(state)
    rest = [batch for batch, _ in numbers(second, 3 - state["epoch"])]
    assert [batch for batch, _ in begun] + rest == whole


def test_each_item_and_each_epoch_draws_differently():
    loader = loader_of(8, 1, seed=0, augment=stamped)
    draws = {batch[1][:12] for batch, _ in numbers(loader, 4)}  # of the first row
    assert len(draws) == 32
    other = loader_of(8, 1, seed=1, augment=stamped)
    assert not draws & {batch[1][:12] for batch, _ in numbers(other, 4)}


def test_the_generator_follows_from_seed_epoch_and_index():
    seen = []

    def recorded(image, labels, rng):
        seen.append((int(labels[0, 0]), float(rng.random())))
        return image, labels

    for _ in range(2):
        list(loader_of(3, seed=7, workers=0, augment=recorded))
    loader = loader_of(3, seed=7, workers=0, augment=recorded)
    list(loader), list(loader)
    expected = [
        [(index, np.random.default_rng([7, epoch, index]).random()) for index in range(3)] for epoch in (0, 1)
    ]
    assert seen == expected[0] * 2 + expected[0] + expected[1]


def test_file_errors_are_raised_unchanged():
    class Damaged(Numbered):
        def __getitem__(self, index):
            raise FileError("masks/cat.png: is not an image")

    with pytest.raises(FileError, match=r"^masks/cat\.png: is not an image$"):
        list(Loader(Damaged(3), 1, preprocess=preprocess))


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (lambda image, labels, rng: None, RuntimeError, "augment, item 0: TypeError"),
        (
            lambda image, labels, rng: (image, labels[:1]),
            ValueError,
            "labels of item 0 must have shape",
        ),
        (
            lambda image, labels, rng: (image / 2, labels),
            ValueError,
            "image of item 0 must be uint8, got float64",
        ),
    ],
)
def test_wrong_results_of_augment_are_rejected(augment, error, message):
    with pytest.raises(error, match=message):
        list(loader_of(1, augment=augment))


def test_an_error_of_the_preprocessing_names_the_item():
    def fails(images):
        raise OverflowError("too bright")

    with pytest.raises(RuntimeError, match="preprocess, item 0: OverflowError: too bright"):
        list(Loader(Numbered(1), 1, preprocess=fails))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, None])
def test_leaving_a_loop_early_stops_its_threads(interruption):
    dataset = Numbered(1000)
    try:
        for _ in Loader(dataset, 1, preprocess=preprocess, workers=3):
            assert loader_threads()
            if interruption:
                raise interruption
            break
    except KeyboardInterrupt:
        pass
    assert not loader_threads()
    asked = len(dataset.asked)
    time.sleep(0.02)
    assert asked == len(dataset.asked) <= 1 + 1 + 2 * 3


def test_leaving_a_loop_early_cancels_waiting_items():
    class Slow(Numbered):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            assert index == 0 or released.wait(10)
            return item

    released, dataset = threading.Event(), Slow(100)
    for _ in Loader(dataset, 1, preprocess=preprocess, workers=1):
        while len(dataset.asked) < 2:
            time.sleep(0.001)
        threading.Timer(0.2, released.set).start()
        break
    assert dataset.asked == [0, 1]  # item 2 was waiting for the one worker


def test_batches_are_prepared_ahead_up_to_a_limit():
    dataset = Numbered(100)
    batches = iter(Loader(dataset, 1, preprocess=preprocess, workers=2))
    next(batches)
    deadline = time.monotonic() + 10
    while len(dataset.asked) < 5 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert len(dataset.asked) == 5  # the one delivered, and twice as many ahead as there are workers


IMAGE, LABELS = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ((IMAGE, LABELS[:3]), r"labels of item 1 .*\(4, 5\).*got \(3, 5\)"),
        ((IMAGE, LABELS.T), r"labels of item 1 .*got \(5, 4\)"),
        ((IMAGE / 255, LABELS), "image of item 1 must be uint8, got float64"),
        ((IMAGE, LABELS.astype(np.int64)), "labels of item 1 must be uint8, got int64"),
        ((IMAGE[..., 0], LABELS), r"image of item 1 must be \(H, W, C\).*got shape \(4, 5\)"),
        ((IMAGE[:0], LABELS[:0]), r"image of item 1 .*got shape \(0, 5, 3\)"),
        ((IMAGE, LABELS[..., None]), r"labels of item 1 .*got \(4, 5, 1\)"),
        ((IMAGE[..., :1], LABELS), "0 has 3 .*2-dimensional.* 1 has 1 and 2"),
        ((IMAGE, LABELS[0, 0]), "0 has 3 .*2-dimensional.* 1 has 3 and 0"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_wrong_items_are_rejected_with_their_index(item, message, workers):
    with pytest.raises(ValueError, match=message):
        list(Loader(Listed((IMAGE, LABELS), item), 2, preprocess=preprocess, workers=workers))


def test_an_item_that_is_not_a_pair_is_rejected_with_its_index():
    with pytest.raises(RuntimeError, match="item 0 of the dataset: ValueError"):
        list(Loader(Listed((IMAGE,)), 1, preprocess=preprocess))


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (lambda images: images.astype(np.float32), r"float32 \(1, 2, 3, 1\)"),
        (lambda images: preprocess(images).astype(np.float64), r"float64 \(1, 1, 2, 3\)"),
        (lambda images: preprocess(images)[0], r"float32 \(1, 2, 3\)"),
    ],
)
def test_wrong_results_of_preprocess_are_rejected(wrong, got):
    with pytest.raises(ValueError, match=rf"float32 \(1, C, 2, 3\), got {got}"):
        list(Loader(Numbered(1), 1, preprocess=wrong))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size .*>= 1, got 0"),
        ({"workers": -1}, "workers .*>= 0, got -1"),
        ({"seed": -1}, "seed .*>= 0, got -1"),
        ({"length": 0}, "dataset"),
    ],
)
def test_wrong_arguments_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        loader_of(**{"length": 4, **options})


def test_without_a_seed_each_loader_draws_one_and_records_it():
    loaders = [loader_of(50, shuffle=True, augment=stamped) for _ in range(3)]
    assert len({loader.seed for loader in loaders}) == 3
    first, second, _ = loaders
    assert first.state_dict()["seed"] == first.seed
    begun = [batch for batch, _ in itertools.islice(numbers(first, 2), 30)]
    second.load_state_dict(first.state_dict())
    assert second.seed == first.seed
    rest = [batch for batch, _ in numbers(second, 1)]
    whole = [batch for batch, _ in numbers(loader_of(50, shuffle=True, seed=first.seed, augment=stamped), 2)]
    assert begun + rest == whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": 4}, "batches of the state .*3, got 4"),
        ({"batches": -1}, "batches of the state .*>= 0, got -1"),
        ({"epoch": 1.5}, "epoch of the state .*>= 0, got 1.5"),
        ({"items": 7}, "state is of a loader with items = 7, this one has 6"),
        ({"batch_size": 3}, "batch_size = 3, this one has 2"),
        ({"seed": 1}, "seed = 1, this one has 0"),
        ({"shuffle": 0}, "shuffle = 0, this one has 1"),
        ({"augment": 1}, "augment = 1, this one has 0"),
        ({"step": 1}, "state must have the entries"),
    ],
)
def test_a_wrong_state_is_rejected_and_changes_nothing(change, message):
    loader = loader_of(6, shuffle=True, seed=0)
    list(loader)
    state = loader.state_dict()
    with pytest.raises(ValueError, match=message):
        loader.load_state_dict({**state, **change})
    assert loader.state_dict() == state
