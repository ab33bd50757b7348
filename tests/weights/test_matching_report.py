import json
from dataclasses import asdict

from minifcn.weights import Report, Transfer

REPORT = Report(
    "vgg16",
    "timm",
    (Transfer("features.0.bias", (64,), "features.0.bias", (64,)),),
    (Transfer("classifier.0.weight", (4096, 25088), "pre_logits.fc1.weight", (4096, 512, 7, 7)),),
    {"classifier.6.bias": (1000,)},
    {"head\x1b[31m.extra": (3, 3)},
)


def test_the_table_lists_every_tensor():
    assert str(REPORT).splitlines() == [
        "vgg16 in the names of timm: 1 copied, 1 reshaped, 1 missing, 1 left over",
        "copied     features.0.bias       (64)           from features.0.bias",
        "reshaped   classifier.0.weight   (4096, 25088)  from pre_logits.fc1.weight (4096, 512, 7, 7)",
        "missing    classifier.6.bias     (1000)",
        "left over  'head\\x1b[31m.extra'  (3, 3)",
    ]


def test_the_summary_is_the_first_line():
    assert REPORT.summary() == str(REPORT).splitlines()[0]


def test_a_report_can_be_stored_as_json():
    data = json.loads(json.dumps(asdict(REPORT)))
    assert data["architecture"] == "vgg16"
    assert data["reshaped"] == [
        {
            "name": "classifier.0.weight",
            "shape": [4096, 25088],
            "source": "pre_logits.fc1.weight",
            "source_shape": [4096, 512, 7, 7],
        }
    ]
    assert data["missing"] == {"classifier.6.bias": [1000]}
    assert len(data["copied"]) == len(data["left_over"]) == 1


def test_an_empty_report():
    assert (
        str(Report("x", "y", (), (), {}, {}))
        == "x in the names of y: 0 copied, 0 reshaped, 0 missing, 0 left over"
    )
