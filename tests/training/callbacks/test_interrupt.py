import os
import signal
import threading

import pytest

from minifcn.training import Callback, Checkpoints, Interruptible, fit
from minifcn.training.checkpoint import Checkpoint
from tests.training.small import digits, parts, settings, state, timeless


class CtrlC(Callback):
    """Presses Ctrl-C in the middle of a step."""

    def __init__(self, *batches, loader):
        self.batches, real, self.count = batches, loader.preprocess, 0

        def preprocess(images):
            self.count += 1
            if self.count in batches:
                signal.raise_signal(signal.SIGINT)
            return real(images)

        loader.preprocess = preprocess


def run(tmp_path, *batches, resume=False):
    model, loader, optimizer = parts(digits)
    options = settings(loader)
    CtrlC(*batches, loader=loader)
    keep = Checkpoints(tmp_path / "last", resume=resume)
    with Interruptible(keep, "go on like this") as interruptible:
        records = fit(model, loader, optimizer, **options, callbacks=[keep, interruptible])
    return state(model, optimizer), timeless(records)


def test_ctrl_c_finishes_the_step_saves_and_gives_the_advice(tmp_path, capsys):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole")
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="step 2; go on like this"):
        run(tmp_path, 3)  # the third image is in the second batch
    assert "Ctrl-C" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler
    assert Checkpoint.read(tmp_path / "last").entries["step"] == 2
    assert run(tmp_path, resume=True) == whole


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt, match="at once; go on like this"):
        run(tmp_path, 3, 4)
    assert Checkpoint.read(tmp_path / "last").entries["step"] == 0
    assert run(tmp_path, resume=True) == whole


def test_ctrl_c_in_the_last_step_of_an_epoch_loses_nothing(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 7)
    assert run(tmp_path, resume=True) == whole


def test_in_other_threads_signals_are_not_handled(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(run(tmp_path)))
    thread.start()
    thread.join()
    assert len(results) == 1
    assert os.path.exists(tmp_path / "last")
