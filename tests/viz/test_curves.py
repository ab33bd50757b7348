import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minifcn.viz import training_curve

METRICS = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iou": "mean IoU",
    "frequency_weighted_iou": "frequency-weighted IoU",
}
ENTRIES = st.fixed_dictionaries(
    {"loss": st.floats(0, 10)}, optional={"lr": st.just(0.1), **dict.fromkeys(METRICS, st.floats(0, 1))}
)


def points(line):
    return list(zip(*line.get_data(), strict=True))


@settings(max_examples=25)
@given(st.lists(ENTRIES, min_size=1, max_size=6))
def test_every_value_is_drawn_over_its_epoch(entries):
    records = [{"epoch": i + 1, "step": 10 * i + 10} | entry for i, entry in enumerate(entries)]
    left, *right = training_curve(records).axes
    assert points(left.lines[0]) == [(record["epoch"], record["loss"]) for record in records]
    assert (left.get_xlabel(), left.get_ylabel()) == ("epoch", "loss")
    drawn = {line.get_label(): points(line) for axes in right for line in axes.lines}
    expected = {
        title: [(record["epoch"], record[key]) for record in records if key in record]
        for key, title in METRICS.items()
    }
    assert drawn == {title: curve for title, curve in expected.items() if curve}
    for axes in right:
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "metric (1 is perfect)")
        assert axes.get_ylim() == (0, 1)
        assert {text.get_text() for text in axes.get_legend().get_texts()} == drawn.keys()


def test_several_records_an_epoch_are_drawn_over_steps():
    records = [{"epoch": 1 + step // 50, "step": step, "loss": 1 / step} for step in range(10, 101, 10)]
    records[4]["mean_iou"] = 0.3
    left, right = training_curve(records).axes
    assert left.get_xlabel() == right.get_xlabel() == "step"
    assert points(left.lines[0])[0] == (10, 0.1)
    assert points(right.lines[0]) == [(50, 0.3)]


def test_a_metric_keeps_its_look_whatever_stands_beside_it():
    def look(*keys):
        records = [{"epoch": 1, "loss": 1.0} | dict.fromkeys(keys, 0.5)]
        lines = training_curve(records).axes[1].lines
        return {line.get_label(): (tuple(line.get_color()), line.get_marker()) for line in lines}

    everything = look(*METRICS)
    assert len(set(everything.values())) == len({marker for _, marker in everything.values()}) == 4
    assert look("mean_iou").items() <= everything.items()


def test_a_log_read_from_a_file_can_be_drawn_and_saved():
    lines = '{"epoch": 1, "loss": NaN, "mean_iou": null}\n{"epoch": 2, "loss": 0.5, "mean_iou": 0.25}\n'
    records = [{"model": "fcn"}, *map(json.loads, lines.splitlines())]  # other records are passed over
    figure = training_curve(records)
    figure.savefig(io.BytesIO(), format="png")
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[0])
    assert points(figure.axes[1].lines[0]) == [(2, 0.25)]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "records must hold a 'loss', got 0 without one"),
        ([{"epoch": 1, "mean_iou": 0.5}], "records must hold a 'loss', got 1 without one"),
        ([{"loss": 1.0}], "each record needs a number as its 'step', got {'loss': 1.0}"),
        ([{"epoch": 1, "loss": 1.0}] * 2, "each record needs a number as its 'step'"),
        ([{"epoch": 1, "loss": "low"}], "each record needs a number as its 'loss', got .*'low'"),
        ([{"epoch": "one", "loss": 1.0}], "each record needs a number as its 'epoch'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(records, message):
    with pytest.raises(ValueError, match=message):
        training_curve(records)


@pytest.mark.parametrize(("count", "marked"), [(1, True), (40, True), (41, False)])
def test_up_to_40_points_are_marked(count, marked):
    records = [{"epoch": i, "loss": 1.0, "mean_iou": 0.5} for i in range(count)]
    for axes in training_curve(records).axes:
        assert [line.get_marker() != "" for line in axes.lines] == [marked]


def test_only_the_axes_are_drawn_and_epochs_are_whole():
    for axes in training_curve([{"epoch": i, "loss": 1.0, "mean_iou": 0.5} for i in (1, 2)]).axes:
        assert {side for side, spine in axes.spines.items() if spine.get_visible()} == {"left", "bottom"}
        assert all(float(place).is_integer() for place in axes.get_xticks())
