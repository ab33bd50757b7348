import json

import pytest

from minifcn.cli import bench, main

SMALL = (
    bench.Case("plain", 2, 3, (8, 9), 3, padding=1),
    bench.Case("upsampling", 3, 3, (8, 12), 4, stride=2, padding=1, groups=3, transposed=True),
)


def test_it_times_each_map_of_each_case(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "CASES", SMALL)
    assert main(["bench", "--runs", "2", "--json", str(tmp_path / "raw.json")]) == 0
    said = capsys.readouterr().out
    for word in ("plain", "upsampling", *bench.MAPS, "PyTorch"):
        assert word in said
    results = json.loads((tmp_path / "raw.json").read_text())
    assert [(result["case"]["name"], result["map"]) for result in results] == [
        (case.name, which) for case in SMALL for which in bench.MAPS
    ]
    for result in results:
        assert len(result["seconds"]["minifcn"]) == 2
        assert all(seconds > 0 for runs in result["seconds"].values() for seconds in runs)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
@pytest.mark.parametrize("which", bench.MAPS)
def test_both_libraries_compute_the_same(case, which):
    pytest.importorskip("torch")
    ours = bench.minifcn_job(case, 2, which)()
    theirs = bench.torch_job(case, 2, which)()
    if isinstance(theirs, tuple):  # gradients to input, weight and bias, of which one was asked for
        (theirs,) = (part for part in theirs if part is not None)
    assert ours == pytest.approx(theirs.numpy(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("option", ["--batch", "--runs"])
def test_impossible_numbers_are_refused(option, capsys):
    assert main(["bench", option, "0"]) == 2
    assert f"{option} must be an integer >= 1, got 0" in capsys.readouterr().err


def test_an_error_over_there_comes_back_here():
    side = bench.Side()
    with pytest.raises(ZeroDivisionError):
        side.make(bench.minifcn_job, bench.Case("impossible", 2, 3, (8, 9), 3, stride=0), 1, "forward")
    side.make(bench.minifcn_job, SMALL[0], 1, "forward")
    assert side.run() > 0
