"""Commands, lessons, benchmarks and tests draw no random number without a seed."""

import ast
from pathlib import Path

import pytest

import minifcn

ROOT = Path(__file__).parents[1]
FOLDERS = [
    Path(minifcn.__file__).parent / "cli",
    ROOT / "lessons" / "src",
    ROOT / "benchmarks",
    ROOT / "tests",
]
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*.py"))

RANDOM = {
    *("Conv2d", "ConvTranspose2d", "Linear", "Fire", "Dropout"),
    *("alexnet", "caffenet", "digit_classifier", "googlenet", "squeezenet1_0", "squeezenet1_1", "vgg16"),
}
"""What draws random weights, or random numbers later, unless it gets `rng` or `init`."""

OTHERS = {"nn", "torch", "torchvision", "L", "dezero"}
"""Modules of other libraries that have such names, too."""

NEW_STYLE = {"default_rng", "Generator", "SeedSequence", "PCG64", "BitGenerator"}


def unseeded(source: str) -> list[str]:
    """Return the calls in a file that would give other numbers in each run."""
    found, tree = [], ast.parse(source)
    random = RANDOM - {
        node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        path = ast.unparse(node.func).split(".")
        arguments = {keyword.arg for keyword in node.keywords}
        without_seed = path[-1] == "default_rng" and not node.args and "seed" not in arguments
        legacy = path[:-1] in (["np", "random"], ["numpy", "random"]) and path[-1] not in NEW_STYLE
        standard = path[0] == "random" and len(path) == 2 and not (path[1] == "Random" and node.args)
        layer = path[-1] in random and path[0] not in OTHERS and not arguments & {"rng", "init", None}
        loader = (
            path[-1] == "Loader" and arguments & {"shuffle", "augment"} and not arguments & {"seed", None}
        )
        if without_seed or legacy or standard or layer or loader:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_randomness_is_seeded(path):
    assert unseeded(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("call", "count"),
    [
        ("np.random.default_rng()", 1),
        ("np.random.default_rng(0)", 0),
        ("default_rng(seed=3)", 0),
        ("np.random.randn(3)", 1),
        ("numpy.random.seed(0)", 1),
        ("np.random.Generator(np.random.PCG64(1))", 0),
        ("random.shuffle(x)", 1),
        ("random.Random(0)", 0),
        ("Conv2d(1, 2, 3)", 1),
        ("Conv2d(1, 2, 3, rng=0)", 0),
        ("layers.Linear(1, 2, init='zeros')", 0),
        ("mf.models.vgg16()", 1),
        ("nn.Conv2d(1, 2, 3)", 0),
        ("Loader(dataset, 2, preprocess=grey)", 0),
        ("Loader(dataset, 2, shuffle=True)", 1),
    ],
)
def test_the_rule_finds_what_it_should(call, count):
    assert len(unseeded(call)) == count
