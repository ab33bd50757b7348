"""Which of several processes this one is, as the launcher of MPI says."""

import os


def launched() -> tuple[int, int]:
    """Return the rank of this process, from 0, and how many an MPI launcher such as mpiexec has started.

    They are read from the environment; without a launcher they are (0, 1).

    Example:
        >>> rank, size = launched()
        >>> 0 <= rank < size
        True
    """
    names = (
        ("PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI, MS-MPI
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
    )
    for rank, size in names:
        texts = os.environ.get(rank, ""), os.environ.get(size, "")
        if all(text.isdecimal() for text in texts) and int(texts[0]) < int(texts[1]):
            return int(texts[0]), int(texts[1])
    return 0, 1
