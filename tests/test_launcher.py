import os

import pytest

from minifcn.launcher import launched


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in os.environ:
        if name.startswith(("PMI", "OMPI", "SLURM")):
            monkeypatch.delenv(name)


def test_without_a_launcher_there_is_one_process():
    assert launched() == (0, 1)


@pytest.mark.parametrize("rank", [0, 1, 10])
@pytest.mark.parametrize(
    ("of_rank", "of_size"),
    [
        ("PMI_RANK", "PMI_SIZE"),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
    ],
)
def test_rank_and_number_of_processes(monkeypatch, of_rank, of_size, rank):
    monkeypatch.setenv(of_rank, str(rank))
    assert launched() == (0, 1)  # one variable alone means nothing
    monkeypatch.setenv(of_size, "11")
    assert launched() == (rank, 11)


@pytest.mark.parametrize(
    ("rank", "size"), [("2", "2"), ("3", "2"), ("-1", "2"), ("", "2"), ("0", "two"), ("0", "")]
)
def test_variables_that_do_not_fit_are_ignored(monkeypatch, rank, size):
    monkeypatch.setenv("PMI_RANK", rank)
    monkeypatch.setenv("PMI_SIZE", size)
    assert launched() == (0, 1)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    assert launched() == (1, 2)
