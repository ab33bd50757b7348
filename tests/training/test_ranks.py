"""Several ranks give the bits of one."""

import pytest

from minifcn.layers import freeze_batch_norm
from minifcn.training import fit
from tests.training import in_process
from tests.training.small import normed, parts, settings, state, timeless


def frozen():
    return freeze_batch_norm(normed())


def train(ranks=None, *, make=frozen, kind="sgd", accumulate=4, epochs=2, **options):
    model, loader, optimizer = parts(make, kind=kind, batch_size=1)
    options = settings(loader, epochs, accumulate) | {"class_weights": [1.0, 3.0]} | options
    records = fit(model, loader, optimizer, ranks=ranks, **options)
    return state(model, optimizer), timeless(records)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_any_number_of_ranks_gives_the_bits_of_one_process(size, kind):
    expected = train(kind=kind)
    for result in in_process.run(size, lambda ranks: train(ranks, kind=kind)):
        assert result == expected
