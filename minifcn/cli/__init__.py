"""The command `minifcn`."""

import argparse
import sys
from collections.abc import Sequence

from minifcn import __version__
from minifcn.cli import demo, info


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 for a wrong input, 130 after Ctrl-C.

    Example:
        >>> main(["demo", "--device", "tpu"])
        2
    """
    parser = argparse.ArgumentParser(
        prog="minifcn", description="Fully convolutional networks from scratch, on NumPy and CuPy."
    )
    parser.add_argument("--version", action="version", version=f"minifcn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (demo, info):
        command.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"minifcn {arguments.command}: {error}", file=sys.stderr)
        return 2
    return 0
