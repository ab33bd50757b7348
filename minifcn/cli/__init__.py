"""The command `minifcn`."""

import argparse
import os
import sys
from collections.abc import Sequence

from minifcn import __version__
from minifcn.cli import bench, check_data, demo, evaluate, explain, info, lessons, predict, train, weights


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    0: all is done. 1: done, but not all was well, as the command says. 2: a wrong input, or a full disk or
    memory. 130: Ctrl-C. 141: the reader of the output, such as `head`, has seen enough.

    Example:
        >>> main(["demo", "--device", "tpu"])
        2
    """
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)  # so that Python's own last flush finds a reader
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return 128 + 13  # as if SIGPIPE had ended it


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="minifcn", description="Fully convolutional networks from scratch, on NumPy and CuPy."
    )
    parser.add_argument("--version", action="version", version=f"minifcn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (demo, check_data, train, evaluate, predict, explain, weights, bench, lessons, info):
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except BrokenPipeError:  # is an `OSError`, and for `main`
        raise
    except KeyboardInterrupt as interrupt:
        print(f"\n{str(interrupt) or 'stopped'}", file=sys.stderr)
        return 130
    except MemoryError as error:
        print(f"minifcn {arguments.command}: not enough memory: {error}", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"minifcn {arguments.command}: {error}", file=sys.stderr)
        return 2
