"""Every public function and class has a docstring with an example that is run as a doctest."""

import inspect
from importlib import import_module

import pytest

PACKAGES = ("", "functional", "layers", "models", "weights", "data", "viz", "checks", "training")
MODULES = ("backend", "convolutionalize", "files", "geometry", "losses", "metrics", "optim", "palette")

WITHOUT_EXAMPLE = {
    *("minifcn.load", "minifcn.num_threads"),
    *("minifcn.layers.Buffer", "minifcn.layers.Pointwise"),
    *("minifcn.models.Classifier", "minifcn.models.Explanation", "minifcn.models.ModelInfo"),
    *("minifcn.weights.Transfer", "minifcn.weights.download", "minifcn.weights.load"),
    *("minifcn.weights.load_fcn", "minifcn.weights.read_class_names"),
    *("minifcn.data.VOC", "minifcn.data.CamVid", "minifcn.data.ClassCounts", "minifcn.data.Dataset"),
    *("minifcn.data.DatasetReport", "minifcn.data.FileDataset", "minifcn.data.Finding"),
    *("minifcn.data.read_classes", "minifcn.checks.CheckFailed", "minifcn.training.Curve"),
    *("minifcn.training.Diverged", "minifcn.training.Interruptible", "minifcn.training.Log"),
    *("minifcn.training.Training", "minifcn.training.Watch", "minifcn.training.evaluate"),
    *("minifcn.optim.Optimizer", "minifcn.geometry.whole_number", "minifcn.geometry.Window"),
    *("minifcn.geometry.Transposed", "minifcn.files.FileError"),
}
"""Names whose examples are still to be written. Nothing may be added here."""


def public(module):
    """Return the names and values of a module's functions and classes."""
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    values = {name: getattr(module, name) for name in names}
    return {
        name: value for name, value in values.items() if inspect.isclass(value) or inspect.isroutine(value)
    }


@pytest.mark.parametrize("name", [*PACKAGES, *MODULES])
def test_every_public_name_has_an_example(name):
    module = import_module(f"minifcn.{name}".rstrip("."))
    documented = public(module)
    assert documented
    missing = {
        f"{module.__name__}.{key}" for key, value in documented.items() if ">>>" not in (value.__doc__ or "")
    }
    assert missing <= WITHOUT_EXAMPLE
