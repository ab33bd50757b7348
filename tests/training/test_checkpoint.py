"""Resume: a training that is stopped anywhere and resumed gives the same bits as one that is not."""

import copy
import json
import os
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open

from minifcn import load
from minifcn.cli.settings import Settings, stored_settings
from minifcn.files import FileError
from minifcn.layers import freeze_batch_norm
from minifcn.training import Callback, Checkpoints, Watch, fit
from minifcn.training import checkpoint as module
from minifcn.training.callbacks import checkpoints as callback
from minifcn.training.checkpoint import Checkpoint, restore
from minifcn.training.state import Training
from minifcn.weights import formats
from tests.first_edition.files import unpack
from tests.training.small import digits, normed, parts, settings, state, timeless


class Stop(Callback):
    """Ends a training abruptly, as a power cut would."""

    class Error(Exception):
        pass

    def __init__(self, *, step=None, epoch=None):
        self.at_step, self.at_epoch = step, epoch

    def step(self, training):
        if training.step == self.at_step:
            raise self.Error

    def epoch(self, training):
        if training.epoch == self.at_epoch:
            raise self.Error


def flipped(image, labels, rng):
    return (image[:, ::-1], labels[:, ::-1]) if rng.random() < 0.5 else (image, labels)


def run(tmp_path, *, stop=None, resume=False, make=normed, kind="sgd", accumulate=1, every_steps=1, log=True):
    model, loader, optimizer = parts(make, kind=kind, augment=flipped)
    checkpoints = Checkpoints(
        tmp_path / "last.safetensors",
        best=tmp_path / "best.safetensors" if make is digits else None,
        every_steps=every_steps,
        resume=resume,
    )
    records = fit(
        model,
        loader,
        optimizer,
        **settings(loader, accumulate=accumulate),
        log=tmp_path / "log.jsonl" if log else None,
        callbacks=[checkpoints, *([stop] if stop else [])],
    )
    return state(model, optimizer), timeless(records)


def lines(path):
    return timeless(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize(("kind", "accumulate"), [("sgd", 1), ("adam", 1), ("sgd", 3)])
def test_a_training_resumed_after_any_step_or_epoch_gives_the_same_bits(tmp_path, kind, accumulate):
    def folder(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    options = {"kind": kind, "accumulate": accumulate}
    whole = run(folder("whole"), **options)
    steps = whole[1][-1]["step"]
    for step in range(1, steps + 1):
        here = folder(f"step {step}")
        with pytest.raises(Stop.Error):
            run(here, stop=Stop(step=step), **options)
        assert run(here, resume=True, **options) == whole
        assert lines(here / "log.jsonl") == whole[1]
    for epoch in range(1, 4):
        here = folder(f"epoch {epoch}")
        with pytest.raises(Stop.Error):
            run(here, stop=Stop(epoch=epoch), **options)
        assert run(here, resume=True, **options) == whole


def test_a_training_can_be_stopped_and_resumed_repeatedly(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole")
    resume = False
    for step in (1, 2, 3, 5, 8, 11, 12):
        with pytest.raises(Stop.Error):
            run(tmp_path, stop=Stop(step=step), resume=resume)
        resume = True
    assert run(tmp_path, resume=True) == whole


def test_steps_after_the_last_checkpoint_are_repeated(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", every_steps=None)
    with pytest.raises(Stop.Error):
        run(tmp_path, stop=Stop(step=6), every_steps=None)
    assert Checkpoint.read(tmp_path / "last.safetensors").entries["step"] == 4  # the end of the first epoch
    assert run(tmp_path, resume=True, every_steps=None) == whole


def test_a_training_stopped_in_an_evaluation_does_not_repeat_the_epoch(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", every_steps=None)

    def stops(*arguments, **options):
        raise Stop.Error

    monkeypatch.setattr(sys.modules["minifcn.training.fit"], "evaluate", stops)
    with pytest.raises(Stop.Error):
        run(tmp_path, every_steps=None)
    monkeypatch.undo()
    entries = Checkpoint.read(tmp_path / "last.safetensors").entries
    assert (entries["epoch"], entries["step"], entries["loader"]["batches"]) == (0, 4, 4)
    assert run(tmp_path, resume=True, every_steps=None) == whole


def test_a_network_on_a_gpu_is_watched_saved_and_resumed(tmp_path, gpu):
    def trained(**options):
        model, loader, optimizer = parts(digits)
        model.to("cuda")
        keep = Checkpoints(tmp_path / "last", best=tmp_path / "best", **options)
        callbacks = [keep, Watch(), *([Stop(step=3)] if not options else [])]
        fit(
            model,
            loader,
            optimizer,
            **settings(loader, accumulate=2),
            class_weights=[1, 2],
            callbacks=callbacks,
        )
        return model.to("cpu").state_dict(), Checkpoint.read(tmp_path / "last").entries

    with pytest.raises(Stop.Error):
        trained()
    resumed, kept = trained(resume=True)
    assert kept["step"] == 6
    assert all(np.isfinite(array).all() for array in resumed.values())


def test_a_finished_training_resumes_to_itself(tmp_path):
    whole = run(tmp_path)
    assert run(tmp_path, resume=True) == whole
    assert lines(tmp_path / "log.jsonl") == whole[1]


def test_the_best_network_survives_a_stop_between_its_file_and_the_checkpoint(tmp_path, monkeypatch):
    """Killed after the best network is written, and before the state that counts it."""
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", make=digits)
    best = (tmp_path / "whole" / "best.safetensors").read_bytes()

    def fails(training, path):
        if training.epoch == 2 and training.records[-1]["epoch"] == 2:
            raise Stop.Error
        real(training, path)

    real = module.write
    monkeypatch.setattr(module, "write", fails)
    with pytest.raises(Stop.Error):
        run(tmp_path, make=digits)
    monkeypatch.undo()
    assert run(tmp_path, make=digits, resume=True) == whole
    assert (tmp_path / "best.safetensors").read_bytes() == best


def test_the_best_network_is_that_of_the_best_epoch(tmp_path):
    """Not that of the last epoch: the scores of three epochs are set by hand."""
    seen = {}

    class Remember(Callback):
        def epoch(self, training):
            seen[training.epoch] = {k: v.copy() for k, v in training.model.state_dict().items()}
            training.records[-1]["mean_iou"] = {1: 0.2, 2: 0.7, 3: 0.7}[training.epoch]

    model, loader, optimizer = parts(digits)
    keep = Checkpoints(tmp_path / "last", best=tmp_path / "best")
    fit(model, loader, optimizer, epochs=3, progress=None, callbacks=[Remember(), keep])
    stored = load(tmp_path / "best").state_dict()
    assert all(np.array_equal(stored[name], array) for name, array in seen[2].items())
    assert not all(np.array_equal(stored[name], array) for name, array in seen[3].items())


def test_a_file_is_plain_safetensors(tmp_path):
    model, loader, optimizer = parts()
    keep = Checkpoints(tmp_path / "last", settings={"colour": "blue"})
    fit(model, loader, optimizer, **settings(loader), callbacks=[keep])
    with safe_open(tmp_path / "last", framework="numpy") as file:
        names = set(file.keys())
        entries = json.loads(file.metadata()["training"])
        mean = file.get_tensor("model.features.1.running_mean")
    assert np.array_equal(mean, model.state_dict()["features.1.running_mean"])
    assert {"model.score.weight", "optimizer.momentum_buffer.score.weight"} < names
    assert entries["step"] == 12
    assert entries["settings"]["colour"] == "blue"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 4}, "epochs was 3, is 4"),
        ({"reduction": "sum"}, "reduction was mean, is sum"),
        ({"accumulate": 2}, "accumulate was 1, is 2"),
        ({"class_weights": [1, 2]}, r"class_weights was None, is \[1.0, 2.0\]"),
        (
            {"schedule": None},
            r"schedule was Poly\(total_steps=12, power=0.9, warmup_steps=0\), is Constant\(\)",
        ),
    ],
)
def test_a_difference_in_settings_is_refused_by_name(tmp_path, change, sentence):
    run(tmp_path)
    model, loader, optimizer = parts()
    before = state(model, optimizer)
    with pytest.raises(ValueError, match=sentence):
        fit(
            model,
            loader,
            optimizer,
            **settings(loader) | change,
            callbacks=[Checkpoints(tmp_path / "last.safetensors", resume=True)],
        )
    assert state(model, optimizer) == before


def test_another_seed_momentum_or_network_is_refused(tmp_path):
    run(tmp_path)

    def resumed(model, loader, optimizer):
        keep = Checkpoints(tmp_path / "last.safetensors", resume=True)
        fit(model, loader, optimizer, **settings(loader), callbacks=[keep])

    with pytest.raises(FileError, match="a loader with seed = 3"):
        resumed(*parts(seed=4))
    with pytest.raises(ValueError, match=r"optimizer was SGD, is Adam; lr was 0\.05, is 0\.002"):
        resumed(*parts(kind="adam"))
    with pytest.raises(FileError, match="the state does not fit FCN"):
        resumed(*parts(digits))


@pytest.mark.parametrize(
    ("every_steps", "steps"), [(3, [3, 6, 9]), (1, range(1, 13)), (5, [5, 10]), (None, [])]
)
def test_a_checkpoint_is_replaced_at_every_steps(tmp_path, every_steps, steps):
    """Of 12 steps in a single epoch, exactly at the multiples; the end of the epoch is another reason."""
    stored = {}

    class Look(Callback):
        def step(self, training):
            stored[training.step] = Checkpoint.read(tmp_path / "last").entries["step"]

    model, loader, optimizer = parts(batch_size=1)
    loader.dataset.length = 12
    keep = Checkpoints(tmp_path / "last", every_steps=every_steps)
    fit(model, loader, optimizer, progress=None, callbacks=[keep, Look()])
    assert stored == {
        step: max(s for s in (*steps, 0, *([12] if step == 12 else [])) if s <= step) for step in range(1, 13)
    }


@pytest.mark.parametrize(
    ("every_minutes", "steps"), [(1, [2, 4, 6, 8, 10]), (1.2, [3, 6, 9]), (0.1, range(1, 13)), (None, [])]
)
def test_a_checkpoint_is_replaced_at_every_minutes(tmp_path, monkeypatch, every_minutes, steps):
    """Of 12 steps of 30 seconds each, which are counted from the last checkpoint on."""
    seconds, stored = 0, {}

    class Clock(Callback):
        def step(self, training):
            nonlocal seconds
            seconds += 30

    class Look(Callback):
        def step(self, training):
            stored[training.step] = Checkpoint.read(tmp_path / "last").entries["step"]

    monkeypatch.setattr(callback, "time", SimpleNamespace(monotonic=lambda: seconds))
    model, loader, optimizer = parts(batch_size=1)
    loader.dataset.length = 12
    keep = Checkpoints(tmp_path / "last", every_minutes=every_minutes)
    fit(model, loader, optimizer, progress=None, callbacks=[Clock(), keep, Look()])
    assert stored == {
        step: max(s for s in (*steps, 0, *([12] if step == 12 else [])) if s <= step) for step in range(1, 13)
    }


def test_a_checkpoint_contains_no_state_of_a_generator(tmp_path):
    run(tmp_path)
    assert "generators" not in Checkpoint.read(tmp_path / "last.safetensors").entries


def test_a_checkpoint_of_the_first_edition_is_refused(tmp_path):
    """Its dropout was drawn in another way, so it cannot be resumed exactly."""
    path = unpack("checkpoint", tmp_path)
    with pytest.raises(
        FileError, match=r"checkpoint\.safetensors .*'minifcn checkpoint 1'.*'minifcn checkpoint 2'"
    ):
        Checkpoint.read(path)


def test_frozen_batch_normalisation_is_frozen_in_a_resumed_training_too(tmp_path):
    def frozen():
        return freeze_batch_norm(normed())

    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole", make=frozen)
    with pytest.raises(Stop.Error):
        run(tmp_path, stop=Stop(step=5), make=frozen)
    assert run(tmp_path, resume=True, make=frozen) == whole
    assert whole[0]["features.1.running_mean"] == state(*parts(frozen)[::2])["features.1.running_mean"]
    free = run(tmp_path / "whole", make=normed)
    assert whole[0]["features.1.running_mean"] != free[0]["features.1.running_mean"]


# Damage


def test_a_damaged_file_is_refused_in_one_sentence(tmp_path):
    run(tmp_path)
    path = tmp_path / "last.safetensors"
    whole = path.read_bytes()
    for cut in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileError, match=r"last\.safetensors"):
            Checkpoint.read(path)
    with pytest.raises(OSError, match="nowhere"):
        Checkpoint.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        {"records": 3},
        {"epoch": "many"},
        {"step": None},
        {"settings": []},
        {"optimizer": {}},
        {"loader": {"epoch": -1}},
        {"total_loss": "nan?"},
        {"format": "another"},
    ],
)
def test_entries_that_do_not_fit_are_refused(tmp_path, change):
    run(tmp_path)
    path = tmp_path / "last.safetensors"
    rewrite(path, change)
    with pytest.raises(FileError, match=r"last\.safetensors"):
        run(tmp_path, resume=True)


def rewrite(path, change):
    """Change entries of a checkpoint; the tensors stay."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    entries = json.loads(header["__metadata__"]["training"]) | change
    header["__metadata__"]["training"] = json.dumps(entries)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def test_leftovers_of_a_killed_training_are_removed(tmp_path):
    (tmp_path / ".minifcn-0123456789abcdef.safetensors").write_bytes(b"half")
    mine = {"mine.safetensors", ".last-mine.safetensors", ".minifcn-mine.safetensors"}
    for name in mine:
        (tmp_path / name).write_bytes(b"whole")
    run(tmp_path)
    assert set(os.listdir(tmp_path)) == {"last.safetensors", "log.jsonl"} | mine


# Disks


@pytest.fixture
def full(monkeypatch):
    """A disk that is full while `full.now` is set."""

    class Disk:
        now = False

    disk = Disk()
    real = formats.atomic_write

    def atomic_write(path):
        if disk.now:
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(formats, "atomic_write", atomic_write)
    return disk


def test_a_full_disk_is_reported_and_training_continues(tmp_path, full, capsys):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole")

    class Fill(Callback):
        def step(self, training):
            full.now = 3 <= training.step < 7
            self.stands = Checkpoint.read(tmp_path / "last.safetensors").entries["step"]
            if full.now:
                assert self.stands == 3

    assert run(tmp_path, stop=Fill()) == whole
    said = capsys.readouterr().err
    assert f"{tmp_path / 'last.safetensors'} could not be written: No space left on device; " in said
    assert "step 3 " in said
    assert run(tmp_path, resume=True) == whole


def test_a_disk_that_is_full_at_the_end_is_an_error_but_nothing_is_lost(tmp_path, full):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole")

    class Fill(Callback):
        def step(self, training):
            full.now = training.step >= 10

    with pytest.raises(OSError, match=r"No space left on device; .*step 10"):
        run(tmp_path, stop=Fill())
    full.now = False
    assert run(tmp_path, resume=True) == whole


def test_a_full_disk_is_an_error_before_training(tmp_path, full):
    full.now = True
    with pytest.raises(OSError, match=r"could not be written: No space left on device$"):
        run(tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_best_network_waits_for_room(tmp_path, monkeypatch):
    """It is written later, unchanged, and until then no checkpoint counts it as written."""
    full = True
    seen = {}

    def save(model, path):
        if full:
            raise OSError("cannot write the model file: No space left on device")
        real(model, path)

    class Course(Callback):
        def step(self, training):
            nonlocal full
            full = training.step < 6
            stored = Checkpoint.read(tmp_path / "last").entries
            assert not stored["records"] or (tmp_path / "best").exists()

        def epoch(self, training):
            seen[training.epoch] = {k: v.copy() for k, v in training.model.state_dict().items()}
            training.records[-1]["mean_iou"] = {1: 0.9, 2: 0.5, 3: 0.4}[training.epoch]

    real = callback.save
    monkeypatch.setattr(callback, "save", save)
    model, loader, optimizer = parts(digits)
    keep = Checkpoints(tmp_path / "last", best=tmp_path / "best", every_steps=1)
    fit(model, loader, optimizer, epochs=3, progress=None, callbacks=[Course(), keep])
    stored = load(tmp_path / "best").state_dict()
    assert all(np.array_equal(stored[name], array) for name, array in seen[1].items())


DEEP = json.loads("[" * 900 + "]" * 900)
WRONG = [None, -1, 1.5, "x", [], {}, float("inf"), float("nan"), 10**30, True, [[]], {"a": 1}, DEEP]


def places(value, place=()):
    """Yield the place of each entry within entries, as keys."""
    if place:
        yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(min(len(value), 2)):
            yield from places(value[key], (*place, key))


def replaced(entries, place, value):
    """Return entries with another value at a place, or without that entry for `...`."""
    changed = inner = copy.deepcopy(entries)
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def test_every_entry_of_a_wrong_type_fits_or_is_refused(tmp_path):
    with pytest.raises(Stop.Error):
        run(tmp_path, stop=Stop(step=6), make=digits)
    read = Checkpoint.read(tmp_path / "last.safetensors")
    command = asdict(Settings(data="digits", model="digit_classifier", from_scratch=True))
    entries = read.entries | {"settings": read.entries["settings"] | {"command": command | {"staged": False}}}
    assert entries["records"]
    network, messages = parts(digits, augment=flipped), []
    for place in places(
        {name: value for name, value in entries.items() if name not in ("network", "format")}
    ):
        for value in [*WRONG, ...]:
            changed = Checkpoint(read.path, replaced(entries, place, value))
            settings = changed.entries.get("settings")
            try:
                stored_settings(changed, {})
                restore(Training(*network, 3, settings if isinstance(settings, dict) else {}), changed)
            except ValueError as error:  # and so FileError
                messages.append(str(error))
    assert len(messages) > 500
    pairs = [["data", "digits"]]  # which a dict could be made of
    with pytest.raises(FileError, match=r"last\.safetensors"):
        stored_settings(Checkpoint(read.path, {"settings": {"command": pairs}}), {})
    assert max(map(len, messages)) < 3000
