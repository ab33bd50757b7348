"""`minifcn train` and `minifcn evaluate` on several processes of MPI, and what can go wrong with them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from minifcn.cli import main
from tests.cli.folders import SCRATCH, photographs
from tests.real_data import CAMVID, WEIGHTS, needs_camvid, needs_weights
from tests.training.small import timeless

pytest.importorskip("mpi4py")
MPIEXEC = shutil.which(
    "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)
pytestmark = pytest.mark.skipif(MPIEXEC is None or os.name == "nt", reason="there is no mpiexec")

OPTIONS = [*SCRATCH, "--batch", "1", "--accumulate", "4", "--class-weights", "median", "--dropout", "0.3"]
OPTIONS += ["--scale", "0.8,1.2", "--color", "0.2", "--checkpoint-every", "1", "--epochs"]
SECONDS = 100
"""Within which everything must end; most of it takes 5 seconds."""

RUN = "import sys; from minifcn.cli import main; sys.exit(main(sys.argv[1:]))"
FULL_DISK = """
import errno, os
from minifcn.training import checkpoint
def write(training, path):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
checkpoint.write = write
"""
NO_MEMORY_ON_RANK_2 = """
import os
import minifcn.training
module = sys.modules["minifcn.training.fit"]
before = module.seed_dropout
def full(model, seed, epoch, batch):
    if os.environ["PMI_RANK"] == "2" and epoch == 1:
        raise MemoryError("Unable to allocate 9 GiB")
    before(model, seed, epoch, batch)
module.seed_dropout = full
"""


def start(size, *arguments, fault="", **environment):
    """Start `minifcn` on several processes."""
    code = f"import sys\n{fault}\n{RUN}"
    command = [MPIEXEC, "-n", str(size), sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | environment
    root = Path(__file__).parents[2]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, cwd=root, env=environment, start_new_session=True)


def finish(process):
    """Return status, standard output and lines of standard error."""
    try:
        out, error = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, out, error.splitlines()


def several(size, *arguments, **options):
    return finish(start(size, *arguments, **options))


def result(out):
    """Return everything that must not depend on the number of processes."""
    tensors = {name: array.tobytes() for name, array in load_file(out / "last.safetensors").items()}
    records = timeless(json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
    return (out / "model.safetensors").read_bytes(), tensors, records


def sentence(error):
    """Return the only line about a failure."""
    assert not any(word in line for line in error for word in ("Traceback", "Abort(", "BAD TERM")), error
    (found,) = (line for line in error if line.startswith("minifcn "))
    assert error[-1] == found
    return found


def wait_for_epoch(out, epochs, process):
    until = time.monotonic() + SECONDS
    log = out / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") >= epochs):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)


def pids(out):
    """Return the processes of a training, by rank."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = [one for one in variables if one.startswith(b"PMI_RANK=")]
        if str(out).encode() in command and rank:
            found[int(rank[0][9:])] = int(entry.name)
    return found


linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("data") / "photos", 13)


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    """The result of one process, for a number of epochs."""

    def of(epochs):
        if epochs not in done:
            out = tmp_path_factory.mktemp("alone") / "out"
            assert main(["train", data, *OPTIONS, str(epochs), "--out", str(out)]) == 0
            done[epochs] = result(out)
        return done[epochs]

    done = {}
    return of


def resumed(out, size):
    if size == 1:
        assert main(["train", "--resume", "--out", str(out)]) == 0
    else:
        status, _, error = several(size, "train", "--resume", "--out", out)
        assert status == 0, error
    return result(out)


def test_three_processes_give_the_files_of_one(data, expected, tmp_path):
    status, said, error = several(3, "train", data, *OPTIONS, 1, "--out", tmp_path)
    assert status == 0, error
    assert error[0].startswith("each of 3 processes on this machine: a step on 1 image")
    assert said.count("epoch 1 of 1") == 1
    assert result(tmp_path) == expected(1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 4])
def test_any_number_of_processes_gives_the_files_of_one(size, data, expected, tmp_path):
    assert several(size, "train", data, *OPTIONS, 2, "--out", tmp_path)[0] == 0
    assert result(tmp_path) == expected(2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gather", "exchange", "broadcast"),
    [
        ("sched_ring", "sched_pairwise", "sched_binomial"),
        ("sched_brucks", "sched_brucks", "sched_scatter_ring_allgather"),
    ],
)
def test_another_algorithm_in_the_library_changes_nothing(
    gather, exchange, broadcast, data, expected, tmp_path
):
    forced = {
        "MPIR_CVAR_IALLGATHER_INTRA_ALGORITHM": gather,
        "MPIR_CVAR_IALLTOALL_INTRA_ALGORITHM": exchange,
        "MPIR_CVAR_IBCAST_INTRA_ALGORITHM": broadcast,
    }
    status, _, error = several(3, "train", data, *OPTIONS, 2, "--out", tmp_path, **forced)
    assert status == 0, error
    assert result(tmp_path) == expected(2)


@pytest.mark.slow
@needs_camvid
@needs_weights
def test_crops_of_camvid_and_real_weights(tmp_path):
    root = tmp_path / "camvid"
    for split, count in (("train", 9), ("val", 2)):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
            for file in sorted((CAMVID / folder).glob("*.png"))[::30][:count]:
                shutil.copy(file, root / folder)
    options = [f"camvid:{root}", "--weights", WEIGHTS, *OPTIONS[len(SCRATCH) :], 3, "--crop", "112x96"]
    status, *_ = several(1, "train", *options, "--out", tmp_path / "alone")
    assert status == 0
    alone = result(tmp_path / "alone")
    for size in (2, 3, 4):
        status, _, error = several(size, "train", *options, "--out", tmp_path / str(size))
        assert status == 0, error
        assert result(tmp_path / str(size)) == alone
    process = start(4, "train", *options, "--out", tmp_path / "stopped")
    wait_for_epoch(tmp_path / "stopped", 1, process)
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert resumed(tmp_path / "stopped", 3) == alone


@pytest.mark.slow
def test_evaluate_is_shared(data, expected, tmp_path):
    model = tmp_path / "model.safetensors"
    model.write_bytes(expected(2)[0])
    files = [tmp_path / "one.json", tmp_path / "three.json"]
    assert main(["evaluate", str(model), data, "--split", "train", "--json", str(files[0])]) == 0
    status, said, error = several(3, "evaluate", model, data, "--split", "train", "--json", files[1])
    assert (status, error) == (0, [])
    assert said.count("mean IoU") == 1
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_ctrl_c_saves_and_another_number_of_processes_continues(data, expected, tmp_path):
    process = start(4, "train", data, *OPTIONS, 8, "--out", tmp_path)
    wait_for_epoch(tmp_path, 2, process)
    process.send_signal(signal.SIGINT)  # mpiexec passes it on
    status, said, error = finish(process)
    assert status == 130, error
    ours = [line[:20] for line in error if "Ctrl-C: " in line or "stopped" in line]
    assert ours == ["Ctrl-C: finishing th", error[-1][:20]], error
    assert "epoch 8 of 8" not in said
    assert resumed(tmp_path, 3) == expected(8)


@pytest.mark.slow
@linux
@pytest.mark.parametrize("rank", range(4))
def test_a_killed_process_ends_all_and_the_checkpoint_is_good(rank, data, expected, tmp_path):
    process = start(4, "train", data, *OPTIONS, 8, "--out", tmp_path)
    wait_for_epoch(tmp_path, 2, process)
    running = pids(tmp_path)
    os.kill(running[rank], signal.SIGKILL)
    killed = time.monotonic()
    status, _, _ = finish(process)
    assert status
    assert time.monotonic() - killed < 20
    assert pids(tmp_path) == {}
    assert resumed(tmp_path, 1 + rank) == expected(8)


@pytest.mark.slow
@linux
def test_twenty_kills_at_random_moments(data, expected, tmp_path):
    rng, out = np.random.default_rng(0), tmp_path / "out"
    for number in range(20):
        again = ["--resume"] if (out / "last.safetensors").exists() else [data, *OPTIONS, 8]
        process = start(3, "train", *again, "--out", out)
        while len(running := pids(out)) < 3:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 3))
        if process.poll() is None:
            os.kill(running[int(rng.integers(3))], signal.SIGKILL)
        status, _, error = finish(process)
        assert not any("Traceback" in line for line in error), error
        assert pids(out) == {}
        if status == 0:  # it was done before
            assert result(out) == expected(8)
            out = tmp_path / str(number)
    if (out / "last.safetensors").exists():
        assert resumed(out, 2) == expected(8)


@pytest.mark.slow
@linux
def test_a_stopped_process_is_waited_for(data, expected, tmp_path):
    quick = "from minifcn.training import ranks\nranks.PATIENCE = 1"
    process = start(3, "train", data, *OPTIONS, 8, "--out", tmp_path, fault=quick)
    wait_for_epoch(tmp_path, 1, process)
    running = pids(tmp_path)
    os.kill(running[1], signal.SIGSTOP)
    time.sleep(1)
    before = [cpu_time(running[rank]) for rank in (0, 2)]
    time.sleep(2)
    spent = [cpu_time(running[rank]) - earlier for rank, earlier in zip((0, 2), before, strict=True)]
    os.kill(running[1], signal.SIGCONT)
    status, _, error = finish(process)
    assert status == 0
    assert max(spent) < 0.7  # seconds: they sleep
    assert any(line.startswith("rank 0 has been waiting") for line in error)
    assert result(tmp_path) == expected(8)


def cpu_time(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_an_image_that_is_damaged_while_training(tmp_path, data, expected):
    mine = tmp_path / "photos"
    shutil.copytree(data.removeprefix("folder:"), mine)
    out, image = tmp_path / "out", mine / "images" / "photo3.png"
    process = start(4, "train", f"folder:{mine}", *OPTIONS, 8, "--out", out)
    wait_for_epoch(out, 2, process)
    before = image.read_bytes()
    image.write_bytes(before[:200])
    status, _, error = finish(process)
    assert status == 2
    assert "photo3.png" in sentence(error)
    image.write_bytes(before)
    assert resumed(out, 2) == expected(8)


@pytest.mark.slow
def test_divergence_is_one_sentence(data, tmp_path):
    options = ["--batch", "1", "--accumulate", "3", "--lr", "1e30", "--epochs", "3", "--out", tmp_path]
    status, _, error = several(3, "train", data, *SCRATCH[:-2], *options)
    assert status == 2
    assert "the training has diverged" in sentence(error)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (FULL_DISK, "the checkpoint .* could not be written: "),
        (NO_MEMORY_ON_RANK_2, "not enough memory: Unable"),
    ],
)
def test_full_disks_and_memories(fault, message, data, tmp_path):
    status, _, error = several(3, "train", data, *OPTIONS, 3, "--out", tmp_path, fault=fault)
    assert status == 2
    assert re.match(f"minifcn train: {message}", sentence(error))


@pytest.mark.slow
def test_other_data_on_one_rank(data, tmp_path):
    other = tmp_path / "photos"
    shutil.copytree(data.removeprefix("folder:"), other)
    (other / "masks" / "photo2.png").write_bytes((other / "masks" / "photo2.png").read_bytes() + b"more")
    fault = f"""
import os, minifcn.cli.train as train
opened = train.open_dataset
if os.environ["PMI_RANK"] == "2":
    train.open_dataset = lambda data, split: opened("folder:{other}", split)
"""
    status, _, error = several(3, "train", data, *OPTIONS, 1, "--out", tmp_path / "out", fault=fault)
    assert status == 2
    assert "training files must be the same on all ranks, got " in sentence(error)
    assert sentence(error).endswith("on rank 2")


@pytest.mark.slow
def test_another_version_on_one_rank(data, tmp_path):
    fault = "import os, numpy\nif os.environ['PMI_RANK'] == '1':\n    numpy.__version__ = '2.0.0'"
    status, _, error = several(2, "train", data, *OPTIONS, 1, "--out", tmp_path / "out", fault=fault)
    assert status == 2
    assert "NumPy must be the same on all ranks, got " in sentence(error)
    assert sentence(error).endswith("'2.0.0' on rank 1")


@pytest.mark.slow
def test_a_folder_in_use_has_its_status(data, tmp_path):
    from minifcn.cli.outputs import output_folder

    with output_folder(tmp_path / "out"):
        status, _, error = several(2, "train", data, *OPTIONS, 1, "--out", tmp_path / "out")
    assert status == 1
    assert "in use by another command" in sentence(error)


@pytest.mark.slow
def test_a_launcher_of_another_library_is_refused(data, tmp_path):
    command = [sys.executable, "-m", "minifcn", "train", data, *OPTIONS, "1", "--out", str(tmp_path / "out")]
    for rank in "0", "1":
        environment = os.environ | {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": rank}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == (rank == "0"), done.stderr
        assert ("the launcher has started 2 processes" in done.stderr) == (rank == "0")


def test_nothing_of_it_is_imported_for_one_process():
    code = """import sys
from minifcn.cli import main
main(["evaluate", "missing", "digits"])
print(*(name for name in sys.modules if name.startswith("mpi4py") or name.endswith("ranks")))"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stderr.startswith("minifcn evaluate: "), done.stderr
    assert done.stdout.split() == []
