"""SIGKILL at any moment, also while a checkpoint is written: the resumed training gives the same bits."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minifcn.training.checkpoint import Checkpoint
from tests.cli.folders import SCRATCH, photographs
from tests.training.small import timeless

resource = pytest.importorskip("resource", reason="SIGKILL and limits of processes are POSIX's")

COMMAND = "import sys; from minifcn.cli import main; sys.exit(main(sys.argv[1:]))"

# Kills the process at the n-th call of a function: before it, after it, or within, where a file that is being
# written then ends in the middle.
KILLER = """
import os, signal, sys
from pathlib import Path
where, number = sys.argv.pop(1), int(sys.argv.pop(1))
count = 0
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def at(function, after=False):
    def counted(*arguments, **options):
        global count
        count += 1
        if count == number and not after:
            die()
        result = function(*arguments, **options)
        if count == number:
            die()
        return result
    return counted
from minifcn.training import checkpoint
if where == "fsync":
    os.fsync = at(os.fsync)
elif where == "rename":
    Path.replace = at(Path.replace)
elif where == "renamed":
    Path.replace = at(Path.replace, after=True)
elif where == "within":
    real = Path.open
    def opened(self, mode="r", *arguments, **options):
        global count
        file = real(self, mode, *arguments, **options)
        if mode == "wb" and self.name.startswith(".minifcn-") and self.suffix == ".safetensors":
            count += 1
            if count == number:
                write = file.write
                class Half:
                    def __enter__(self): return self
                    def __exit__(self, *e): pass
                    def write(self, data):
                        write(bytes(data)[: len(data) // 2]); file.flush(); die()
                return Half()
        return file
    Path.open = opened
"""


def environment():
    return os.environ | {"MINIFCN_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def begin(out, *arguments, killer=None):
    code, first = (COMMAND, []) if killer is None else (KILLER + COMMAND, [killer[0], str(killer[1])])
    return subprocess.Popen(
        [sys.executable, "-c", code, *first, "train", *map(str, arguments), "--out", str(out)],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, error = process.communicate(timeout=120)
    return process.returncode, error


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    data = photographs(tmp_path_factory.mktemp("photos"))
    return [
        data,
        *SCRATCH,
        "--epochs",
        3,
        "--batch",
        2,
        "--checkpoint-every",
        1,
        "--dropout",
        0.5,
        "--color",
        0.2,
    ]


@pytest.fixture(scope="module")
def whole(options, tmp_path_factory):
    """The result of a training that is not killed, and how long it takes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    started = time.monotonic()
    status, error = finish(begin(out, *options))
    assert status == 0, error
    return result(out), time.monotonic() - started


def result(out):
    """Return everything that must be equal at the end."""
    checkpoint = Checkpoint.read(out / "last.safetensors")
    entries = dict(checkpoint.entries)
    entries["records"] = timeless(entries["records"])
    log = timeless(json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
    parts = {part: checkpoint.part(part) for part in ("model", "optimizer")}
    tensors = {(part, name): a.tobytes() for part in parts for name, a in parts[part].items()}
    return tensors, entries, log, (out / "model.safetensors").read_bytes()


def resumed(out, options):
    """Resume as a user would: start again if there was no checkpoint yet."""
    there = (out / "last.safetensors").exists()
    status, error = finish(begin(out, *(["--resume"] if there else options)))
    assert status == 0, error
    leftovers = [name for name in os.listdir(out) if name.startswith(".minifcn-")]
    assert leftovers == []
    return result(out)


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("within", 4),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("within", 1), ("fsync", 7), ("rename", 11), ("renamed", 9)]
        ),
    ],
)
def test_killed_while_a_file_is_written(options, whole, tmp_path, where, number):
    """The files that are synchronised are the log, checkpoints and the best network in turn."""
    out = tmp_path / "out"
    status, _ = finish(begin(out, *options, killer=(where, number)))
    assert status == -signal.SIGKILL
    if number > 1:
        Checkpoint.read(out / "last.safetensors")  # never a damaged one
    assert resumed(out, options) == whole[0]


def kill_at(out, options, seconds):
    process = begin(out, *options)
    time.sleep(seconds)
    process.kill()
    finish(process)


@pytest.mark.slow
def test_killed_at_any_moment(options, whole, tmp_path):
    out = tmp_path / "out"
    kill_at(out, options, 0.7 * whole[1])
    assert resumed(out, options) == whole[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_killed_at_fifty_moments(options, whole, tmp_path, seed):
    """Forty random moments, and ten random files below; some trainings are killed twice."""
    rng = np.random.default_rng(seed)
    out = tmp_path / "out"
    kill_at(out, options, rng.uniform(0.2, 1.0) * whole[1])
    if seed % 4 == 0 and (out / "last.safetensors").exists():
        kill_at(out, ["--resume"], rng.uniform(0.2, 1.0) * whole[1])
    assert resumed(out, options) == whole[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random_files(options, whole, tmp_path, seed):
    rng = np.random.default_rng(seed)
    where, number = rng.choice(["within", "fsync", "rename", "renamed"]), int(rng.integers(1, 13))
    out = tmp_path / "out"
    finish(begin(out, *options, killer=(where, number)))
    assert resumed(out, options) == whole[0]


# Disks


def limited(size):
    """Limit the size of files: writing then fails as on a full disk, with another errno."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_file_that_cannot_grow(options, whole, tmp_path):
    """Before the first step, and in a resumed training, whose old checkpoint is kept."""
    command = [sys.executable, "-c", COMMAND, "train"]

    def run(*arguments, size):
        return subprocess.run(
            [*command, *map(str, arguments), "--out", str(tmp_path / "out")],
            env=environment() | {"MPLCONFIGDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            preexec_fn=limited(size),
        )

    refused = run(*options, size=100_000)
    assert refused.returncode == 2
    last = tmp_path / "out" / "last.safetensors"
    assert f"minifcn train: the checkpoint {last} could not be written: File too large\n" in refused.stderr
    assert not last.exists()

    finish(begin(tmp_path / "out", *options, killer=("rename", 8)))
    before = last.read_bytes()
    step = Checkpoint.read(last).entries["step"]
    assert 0 < step < 9
    full = run("--resume", size=100_000)
    assert full.returncode == 2
    assert last.read_bytes() == before
    assert f"could not be written: File too large; that of step {step} " in full.stderr
    assert "could not be written" in full.stderr.splitlines()[-1]
    assert resumed(tmp_path / "out", options) == whole[0]
