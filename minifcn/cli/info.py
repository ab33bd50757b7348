"""`minifcn info`: versions, devices and threads, for example for a bug report."""

import argparse
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from threadpoolctl import threadpool_info

from minifcn import __version__
from minifcn.backend import cuda_device
from minifcn.kernels.threads import num_threads
from minifcn.printing import show

_PACKAGES = ("numpy", "matplotlib", "pillow", "safetensors", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: none."""


def run(arguments: argparse.Namespace) -> None:
    """Print versions, devices and threads."""
    rows = [("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    rows.append(("minifcn", __version__))
    rows += [(package, _version(package)) for package in _PACKAGES]
    rows.append(("threads", f"{num_threads()} (set by MINIFCN_NUM_THREADS or minifcn.set_num_threads)"))
    rows += [
        ("BLAS", f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads")
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    rows.append(("GPU", _gpu()))
    for name, value in rows:
        show(f"{name:14}{value}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _gpu() -> str:
    try:
        device = cuda_device("cuda")
    except ValueError as error:
        return str(error)
    return f"CuPy {sys.modules['cupy'].__version__}, device {device}"
