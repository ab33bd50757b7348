"""`minifcn export`: a model file as an ONNX file, which onnxruntime and other programs run."""

import argparse
from pathlib import Path
from typing import get_args

from minifcn.cli.outputs import new_files
from minifcn.printing import show
from minifcn.weights import load, save_onnx
from minifcn.weights.onnx_export import OPSET, ImageLayout


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        f"Writes a network as ONNX (operators of version {OPSET}), for images of any size, with the class "
        "names, colours and preprocessing in its metadata."
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="model file")
    parser.add_argument("out", type=Path, metavar="OUT.onnx", help="file to write")
    layout = "put the preprocessing into the file: the input is uint8 RGB images of this layout"
    parser.add_argument("--preprocessing", choices=get_args(ImageLayout), help=layout)
    parser.add_argument("--argmax", action="store_true", help="the output is labels instead of scores")


def run(arguments: argparse.Namespace) -> None:
    """Write the file."""
    out = arguments.out
    with new_files(out):
        save_onnx(load(arguments.model), out, preprocessing=arguments.preprocessing, argmax=arguments.argmax)
    show(f"wrote {out}: {out.stat().st_size:,} bytes")
