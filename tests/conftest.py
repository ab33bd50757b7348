"""What all tests share: Hypothesis profiles, and the `xp` fixture for the libraries that arrays belong to."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from minifcn import models, training, viz  # noqa: F401  # see below
from minifcn.layers import config
from tests import strict_cupy

# A module with the name of a public function, such as models/alexnet.py, would replace that function in its
# package if pytest were the first to import it, for its doctests. So these packages are imported before.

# The everyday suite always sees the same examples. To look for new ones: pytest --hypothesis-profile=explore
_shared: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],  # `xp` holds nothing that wears out
}
settings.register_profile("everyday", derandomize=True, **_shared)
settings.register_profile("explore", max_examples=2_000, print_blob=True, **_shared)
settings.load_profile("everyday")


@dataclass(frozen=True)
class Xp:
    """A library that arrays may belong to, with the ways there and back.

    Attributes:
        name: As in the test's name.
        module: `numpy`, `cupy`, or the stand-in.
        array: Takes a NumPy array there; the copy is read-only where the library knows such a thing.
        numpy: Takes an array back.
    """

    name: str
    module: Any
    array: Callable[[Any], Any]
    numpy: Callable[[Any], np.ndarray]


def _copy(a: Any) -> np.ndarray:
    return np.array(a)


def _read_only(a: Any) -> np.ndarray:
    copy = np.array(a)
    copy.setflags(write=False)
    return copy


def _back(a: Any) -> np.ndarray:
    assert isinstance(a, np.ndarray | np.generic), f"NumPy went in, {type(a)} came out"
    return np.asarray(a)


def _numpy(name: str) -> Xp:
    return Xp(name, np, _copy if name == "numpy" else _read_only, _back)


def _gpu(name: str, cupy: Any) -> Xp:
    def back(a: Any) -> np.ndarray:
        assert isinstance(a, cupy.ndarray), f"CuPy went in, {type(a)} came out"
        return cupy.asnumpy(a)

    return Xp(name, cupy, cupy.asarray, back)


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Xp:
    """The strict stand-in for CuPy, installed as `cupy`."""
    module = strict_cupy.make()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return _gpu("strict", module)


@pytest.fixture
def cupy() -> Xp:
    """CuPy itself, where there is a GPU."""
    module = pytest.importorskip("cupy", reason="CuPy is not installed")
    if not module.is_available():
        pytest.skip("there is no CUDA device")
    return _gpu("cupy", module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests 15 minutes; the limit of all others is in pyproject.toml."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))


GPUS = ["strict", pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(params=GPUS)
def gpu(request: pytest.FixtureRequest) -> Xp:
    """The stand-in for CuPy, and CuPy itself."""
    library: Xp = request.getfixturevalue(request.param)
    return library


@pytest.fixture(params=["numpy", "numpy-readonly", *GPUS])
def xp(request: pytest.FixtureRequest) -> Xp:
    """Each library in turn: NumPy, NumPy with read-only inputs, the stand-in for CuPy, and CuPy itself."""
    if request.param in ("strict", "cupy"):
        library: Xp = request.getfixturevalue(request.param)
        return library
    return _numpy(request.param)


@pytest.fixture(autouse=True)
def registered_classes(monkeypatch):
    """Forget at the end of a test the classes of layers that it registered."""
    monkeypatch.setattr(config, "_classes", dict(config._classes))
