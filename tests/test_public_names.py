"""Every public function and class has a docstring with an example that is run as a doctest."""

import dataclasses
import inspect
import pkgutil
from importlib import import_module

import pytest

import minifcn

ROOMS = [module.name for module in pkgutil.iter_modules(minifcn.__path__)]
PUBLIC = ["minifcn", *(f"minifcn.{name}" for name in ROOMS if name not in ("__main__", "cli", "kernels"))]


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


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    documented = public(import_module(name))
    assert documented
    missing = {f"{name}.{key}" for key, value in documented.items() if ">>>" not in (value.__doc__ or "")}
    assert missing == set()


def test_public_dataclasses_do_not_change():
    values = [value for name in PUBLIC for value in public(import_module(name)).values()]
    classes = {value for value in values if inspect.isclass(value) and dataclasses.is_dataclass(value)}
    assert {cls.__name__ for cls in classes if not cls.__dataclass_params__.frozen} == {"Film", "Training"}
