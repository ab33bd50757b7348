"""The command `minifcn`: one module for each command, which is imported when the command is run."""

import argparse
import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module

from minifcn import __version__
from minifcn.files import InUseError

COMMANDS = {
    "demo": "handwriting: classifier, heat maps, FCN at three strides, metrics, figures",
    "check-data": "check a dataset before training",
    "train": "train a network on labelled images",
    "evaluate": "compute the metrics of a model on a dataset",
    "predict": "label your own images",
    "explain": "every layer's shape, receptive field, position, parameters, multiplications and bytes",
    "weights": "inspect, convert and download files of weights",
    "lessons": "open the lessons in JupyterLab",
    "info": "versions, devices and threads",
}
"""The commands, and what they do."""

_IN_PYTHON = {
    "partial=True": "minifcn weights convert --partial",
    "load_classifier": "minifcn weights convert",
    "load_fcn": "minifcn weights convert",
    "minifcn.load reads it": "minifcn train --from takes it",
    "Checkpoints(resume=True)": "minifcn train --resume",
}
"""What messages of the library suggest, and the commands that do the same."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    0: success. 1: finished, but not everything was well, as the output says; or another command uses the
    output. 2: wrong input, full disk or not enough memory. 130: Ctrl-C. 141: the reader of the output, such
    as `head`, closed it.

    Example:
        >>> main(["demo", "--device", "tpu"])
        2
    """
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)  # for what Python flushes at its exit
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return 128 + 13  # as if SIGPIPE had ended it


def _run(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="minifcn", description="Fully convolutional networks from scratch, on NumPy and CuPy."
    )
    parser.add_argument("--version", action="version", version=f"minifcn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose)
        if name == chosen:
            module = import_module(f"minifcn.cli.{name.replace('-', '_')}")
            command.set_defaults(run=module.run)
            module.add_arguments(command)
    arguments = parser.parse_args(argv)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about damaged metadata, with source paths
    try:
        return arguments.run(arguments) or 0
    except BrokenPipeError:  # an `OSError`, which `main` handles
        raise
    except KeyboardInterrupt as interrupt:
        print(f"\n{str(interrupt) or 'stopped'}", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"minifcn {arguments.command}: not enough memory: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        actions = commands.choices[arguments.command]._actions
        options = {action.dest: action.option_strings[0] for action in actions if action.option_strings}
        print(f"minifcn {arguments.command}: {_for_command_line(str(error), options)}", file=sys.stderr)
        return 1 if isinstance(error, InUseError) else 2


def _for_command_line(message: str, options: Mapping[str, str]) -> str:
    """Return a message of the library with options and commands in place of arguments and functions.

    Example:
        >>> _for_command_line("batch_size must be an integer >= 1, got 0", {"batch_size": "--batch"})
        '--batch must be an integer >= 1, got 0'
    """
    for words, command in _IN_PYTHON.items():
        message = message.replace(words, command)
    found = re.match(r"(\w+)(?= must |: )", message)
    return options[found[1]] + message[found.end() :] if found and found[1] in options else message
