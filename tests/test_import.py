import subprocess
import sys
from pathlib import Path

import pytest

import minifcn

ROOT = Path(__file__).parents[1]
HEAVY = "matplotlib PIL hypothesis cupy safetensors tqdm torch scipy IPython"


def _run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )


def test_import_loads_numpy_and_nothing_heavier():
    code = f"import sys, minifcn; print(*(set(sys.modules) & set({HEAVY!r}.split())))"
    result = _run(code)
    assert (result.returncode, result.stdout.split(), result.stderr) == (0, [], "")


@pytest.mark.parametrize("room", ["data", "weights", "checks", "training", "viz"])
def test_rooms_open_when_they_are_entered(room):
    ignored = "category=DeprecationWarning, module='matplotlib'"  # its older versions with a newer pyparsing
    code = f"import sys, warnings; warnings.filterwarnings('ignore', {ignored}); import minifcn; "
    result = _run(code + f"assert minifcn.{room} is sys.modules['minifcn.{room}']")
    assert (result.returncode, result.stderr) == (0, "")


def test_every_public_name_is_there():
    for name in minifcn.__all__:
        assert getattr(minifcn, name) is not None
    assert set(minifcn.__all__) <= set(dir(minifcn))
    assert minifcn.load is minifcn.weights.load
    assert minifcn.save is minifcn.weights.save
    with pytest.raises(AttributeError, match="module 'minifcn' has no attribute 'lode'"):
        _ = minifcn.lode


@pytest.mark.skipif(not (ROOT / "minifcn").exists(), reason="an installed package lies elsewhere")
def test_a_module_does_not_replace_the_function_of_its_name_when_pytest_imports_it_first():
    paths = ["minifcn/models/alexnet.py", "minifcn/training/label.py", "minifcn/viz/panels.py"]
    tests = [
        "tests/models/test_alexnet.py",
        "tests/training/test_label.py",
        "-k",
        "names or label or alexnet",
    ]
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider", *paths, *tests]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "room", ["functional", "layers", "models", "weights", "data", "checks", "viz", "training"]
)
def test_every_public_name_of_a_room_is_there(room):
    module = getattr(minifcn, room)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None, name
