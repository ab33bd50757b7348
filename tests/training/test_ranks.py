"""Several ranks, which are threads here, give the bits of one process; processes are in test_mpiexec.py."""

import copy
import io
import sys
import time

import numpy as np
import pytest

from minifcn.data import Loader
from minifcn.layers import freeze_batch_norm
from minifcn.losses import softmax_cross_entropy
from minifcn.optim import SGD
from minifcn.training import Callback, Checkpoints, DivergedError, evaluate, fit, memory, ranks
from minifcn.training.ranks import GradientSum, _parts
from tests.training import in_process
from tests.training.small import GREY, Blobs, digits, normed, parts, settings, state, timeless


def frozen():
    return freeze_batch_norm(normed())


def train(
    several=None, *, make=frozen, kind="sgd", accumulate=4, epochs=2, length=7, callbacks=(), **options
):
    model, loader, optimizer = parts(make, kind=kind, batch_size=1)
    loader.dataset.length = length
    options = settings(loader, epochs, accumulate) | {"class_weights": [1.0, 3.0]} | options
    records = fit(model, loader, optimizer, ranks=several, callbacks=callbacks, **options)
    return state(model, optimizer), timeless(records)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "reduction"), [("sgd", "mean"), ("adam", "batch"), ("sgd", "sum")])
def test_any_number_of_ranks_gives_the_bits_of_one_process(size, kind, reduction):
    how = {"kind": kind, "reduction": reduction, "accumulate": 4 if kind == "sgd" else 5}
    expected = train(**how)
    for result in in_process.run(size, lambda several: train(several, **how)):
        assert result == expected


@pytest.mark.parametrize("block", [1, 7, 64])
def test_the_size_of_the_blocks_changes_nothing(block, monkeypatch):
    expected = train(epochs=1)
    monkeypatch.setattr(ranks, "GRADIENT_BLOCK", block)
    small = in_process.run(3, lambda several: train(several, epochs=1))
    assert small == [expected] * 3


def test_gradients_are_added_in_the_order_of_the_batches():
    """In float32, 1e8 + 1 - 1e8 depends on the order; 7 batches on 3 ranks, of which the last is alone."""
    batches = [np.array([1e8, 1, 3], "f4"), *np.random.default_rng(0).normal(0, 1e7, (6, 3)).astype("f4")]
    expected = batches[0]
    for one in batches[1:]:
        expected = expected + one
    assert (expected != sum(batches[::-1])).any()

    def add(several):
        parameter = frozen().features[0].bias
        parameter.data = np.zeros(3, "f4")
        summed = GradientSum(several, [parameter], 7)
        rows = []
        for number, batch in enumerate(batches):
            own = summed.is_own(number)
            parameter.grad = batch if own else parameter.grad
            rows += summed.add((number / 3, 1.0, number + 1) if own else None, number == 6)
        return parameter.grad.tobytes(), rows

    for gradient, rows in in_process.run(3, add):
        assert gradient == expected.tobytes()
        assert rows == [(number / 3, 1.0, number + 1) for number in range(7)]


@pytest.mark.parametrize("seed", range(5))
def test_blocks_cover_each_element_once(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 9, 6).tolist()
    block = int(rng.integers(1, 12))
    whole = np.arange(sum(sizes))
    arrays = np.split(whole, np.cumsum(sizes)[:-1])
    found = np.full(-(-len(whole) // block) * block, -1)
    for start in range(0, len(found), block):
        for i, of_array, of_block in _parts(sizes, start, start + block):
            found[start : start + block][of_block] = arrays[i][of_array]
    assert found[: len(whole)].tolist() == whole.tolist()


def test_uneven_void_is_weighted_as_in_one_batch_in_float64():
    """A step of 7 images with from none to all but few of their pixels void, on 3 ranks."""
    weights, model = [1.0, 3.0], digits()
    for layer in model.score_layers():
        layer.weight.data[...] = np.random.default_rng(0).normal(0, 0.05, layer.weight.data.shape)
    for layer in model.layers():
        if hasattr(layer, "p"):
            layer.p = 0.0
    exact = copy.deepcopy(model).astype("float64").train()
    total = 0.0
    for x, labels in Loader(Blobs(), 1, preprocess=GREY, workers=0):
        scores = exact(x.astype(np.float64))
        _, gradient = softmax_cross_entropy(scores, labels, reduction="sum", class_weights=np.array(weights))
        exact.backward_parameters(gradient)
        total += sum(weight * np.count_nonzero(labels == k) for k, weight in enumerate(weights))

    def step(several):
        mine = copy.deepcopy(model)
        loader = Loader(Blobs(), 1, preprocess=GREY, workers=0)
        optimizer = SGD(mine, 1.0)
        fit(mine, loader, optimizer, accumulate=7, class_weights=weights, progress=None, ranks=several)
        return dict(mine.named_parameters())

    for after in in_process.run(3, step):
        for name, parameter in exact.named_parameters():
            if parameter.grad is not None:
                expected = parameter.data - parameter.grad / total
                np.testing.assert_allclose(after[name].data, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_checkpoint_is_resumed_on_another_number_of_ranks(tmp_path):
    class Stop(Callback):
        def step(self, training):
            if training.step == 3:  # within the second epoch
                raise KeyboardInterrupt("enough")

    path = tmp_path / "last.safetensors"
    expected = train()
    with pytest.raises(KeyboardInterrupt, match="enough"):
        in_process.run(
            4, lambda several: train(several, callbacks=[Checkpoints(path, every_steps=1), Stop()])
        )
    saved = path.read_bytes()
    for size in (1, 2, 3):
        path.write_bytes(saved)
        resumed = Checkpoints(path, resume=True)
        several = in_process.run(size, lambda one, resumed=resumed: train(one, callbacks=[resumed]))
        assert several == [expected] * size
    path.write_bytes(saved)
    assert train(callbacks=[Checkpoints(path, resume=True)]) == expected


def test_evaluation_is_shared():
    model = frozen()
    loader = Loader(Blobs(5), 2, preprocess=GREY, workers=0)
    expected = evaluate(model, loader).matrix.tolist()
    found = in_process.run(3, lambda several: evaluate(copy.deepcopy(model), copied(loader), ranks=several))
    assert [matrix.matrix.tolist() for matrix in found] == [expected] * 3


def copied(loader):
    return Loader(loader.dataset, loader.batch_size, preprocess=loader.preprocess, workers=0)


def test_a_rank_prepares_only_its_own_batches():
    asked = {}

    def train_some(several):
        model, loader, optimizer = parts(frozen, batch_size=1)
        items = asked[several.rank] = []
        get = Blobs(7)
        loader.dataset = Recording(get, items)
        fit(model, loader, optimizer, accumulate=4, progress=None, ranks=several)
        return loader.state_dict()

    positions = in_process.run(2, train_some)
    assert positions[0] == positions[1]
    assert sorted(asked[0] + asked[1]) == list(range(7))
    assert len(asked[0]) == 4  # of batches 0 to 3 and 4 to 6: 0, 2, 4, 6


class Recording:
    class_names, palette = Blobs.class_names, Blobs.palette

    def __init__(self, dataset, items):
        self.dataset, self.items = dataset, items

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        self.items.append(index)
        return self.dataset[index]


def test_what_rank_0_decides_holds_for_all():
    class Less(Callback):
        def epoch(self, training):
            training.epochs = 1

    records = in_process.run(2, lambda several: train(several, epochs=5, callbacks=[Less()])[1])
    assert [len(one) for one in records] == [1, 1]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_error_on_one_rank_is_raised_on_all(failing):
    class Damaged(Blobs):
        def __getitem__(self, index):
            if index == 5:
                raise OSError("photo5.png is damaged")
            return super().__getitem__(index)

    seen = []

    def train_some(several):
        model, loader, optimizer = parts(frozen, batch_size=1)
        if several.rank == failing:
            loader.dataset = Damaged(30)
        else:
            loader.dataset = Blobs(30)
        try:
            fit(model, loader, optimizer, accumulate=3, epochs=9, progress=None, ranks=several)
        except RuntimeError as error:
            seen.append(str(error))
            raise

    with pytest.raises(RuntimeError, match=r"item 5 of the dataset: OSError: photo5\.png is damaged"):
        in_process.run(3, train_some)
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_divergence_is_raised_on_all():
    def train_some(several):
        model, loader, optimizer = parts(frozen, batch_size=1)
        optimizer.lr = 1e30
        with np.errstate(all="ignore"):
            fit(model, loader, optimizer, accumulate=2, epochs=9, progress=None, ranks=several)

    with pytest.raises(DivergedError, match=r"step \d+, learning rate 1.00e\+30"):
        in_process.run(2, train_some)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda loader, options: options.update(class_weights=[1.0, 2.0]), "class_weights must .* rank 1"),
        (
            lambda loader, options: setattr(loader, "seed", 9),
            "seed of the training loader .* '3' on rank 0, '9' on rank 1",
        ),
        (
            lambda loader, options: setattr(loader.dataset, "length", 8),
            "items of the training loader .* rank 1",
        ),
        (
            lambda loader, options: options.update(validation=None),
            "a validation set must .* 'True' on rank 0, 'False' on rank 1",
        ),
    ],
)
def test_ranks_with_other_settings_or_data_are_refused(change, message):
    def train_some(several):
        model, loader, optimizer = parts(frozen, batch_size=1)
        options = settings(loader, 1, 4)
        if several.rank == 1:
            change(loader, options)
        fit(model, loader, optimizer, ranks=several, **options)

    with pytest.raises(ValueError, match=message):
        in_process.run(2, train_some)


@pytest.mark.parametrize(
    ("batch_size", "advice"), [(8, "batch_size=2 accumulate=4"), (2, "batch_size=1 acc")]
)
def test_a_step_needs_a_batch_for_each_rank(batch_size, advice):
    def train_some(several):
        model, loader, optimizer = parts(frozen, batch_size=batch_size)
        fit(model, loader, optimizer, progress=None, ranks=several)

    with pytest.raises(ValueError, match=f"accumulate must be at least 4, .* got 1: take {advice}"):
        in_process.run(4, train_some)


def test_batch_normalization_must_be_frozen():
    with pytest.raises(ValueError, match=r"BatchNorm2d\(6\).*freeze_batch_norm"):
        in_process.run(2, lambda several: train(several, make=normed))


def test_waiting_sleeps_and_says_so_once(monkeypatch):
    printed = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", printed)
    monkeypatch.setattr(ranks, "PATIENCE", 0.05)

    def wait(several):
        class Late:
            until = time.monotonic() + 0.2

            def Test(self):
                return time.monotonic() > self.until

        spent = time.thread_time()
        several.wait(Late())
        return time.thread_time() - spent

    assert max(in_process.run(2, wait)) < 0.1
    assert sorted(line[:28] for line in printed.getvalue().splitlines()) == [
        "rank 0 has been waiting for ",
        "rank 1 has been waiting for ",
    ]


def test_memory_is_for_one_of_several_processes():
    model, _, optimizer = parts(frozen)

    class Several:
        size, local = 4, 2

    alone = memory.check_step(model, optimizer, 1, 4, (20, 24), "cpu")
    shared = memory.check_step(model, optimizer, 1, 4, (20, 24), "cpu", Several())
    assert shared.startswith(f"each of 2 processes on this machine: {alone[:20]}")
