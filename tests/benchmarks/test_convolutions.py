import pytest
from beside import Side
from convolutions import CASES, MAPS, Case, all_cases, compare, minifcn_job, torch_job

SMALL = (
    Case("plain", 2, 3, (8, 9), 3, padding=1),
    Case("upsampling", 3, 3, (8, 12), 4, stride=2, padding=1, groups=3, transposed=True),
)


def test_it_times_each_map_of_each_case(capsys):
    results = compare(SMALL, 1, 2, 0.0)
    said = capsys.readouterr().out
    for word in ("plain", "upsampling", *MAPS, "PyTorch"):
        assert word in said
    assert [(result["case"]["name"], result["map"]) for result in results] == [
        (case.name, which) for case in SMALL for which in MAPS
    ]
    for result in results:
        assert len(result["seconds"]["minifcn"]) == 2  # the first run of a turn does not count
        assert all(seconds > 0 for runs in result["seconds"].values() for seconds in runs)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
@pytest.mark.parametrize("which", MAPS)
def test_both_libraries_compute_the_same(case, which):
    pytest.importorskip("torch")
    ours = minifcn_job(case, 2, which)()
    theirs = torch_job(case, 2, which)()
    if isinstance(theirs, tuple):  # gradients to input, weight and bias, of which one was asked for
        (theirs,) = (part for part in theirs if part is not None)
    assert ours == pytest.approx(theirs.numpy(), rel=1e-4, abs=1e-4)


def test_all_cases_have_names_of_their_own():
    for cases in (CASES, all_cases(360, 480)):
        assert len({case.name for case in cases}) == len(cases)


def test_an_error_in_the_process_is_raised_here():
    side = Side()
    with pytest.raises(ZeroDivisionError):
        side.make(minifcn_job, Case("impossible", 2, 3, (8, 9), 3, stride=0), 1, "forward")
    side.make(minifcn_job, SMALL[0], 1, "forward")
    assert all(seconds > 0 for seconds in side.turn(0.01))
