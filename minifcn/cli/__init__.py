"""The command `minifcn`: one module for each command, which is imported when the command is run."""

import argparse
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from minifcn import __version__
from minifcn.files import InUseError
from minifcn.launcher import launched
from minifcn.printing import escape, say, show

if TYPE_CHECKING:
    from minifcn.training.ranks import Ranks

COMMANDS = {
    "demo": "handwriting: classifier, heat maps, FCN at three strides, metrics, figures",
    "check-data": "check a dataset before training",
    "train": "train a network on labelled images",
    "evaluate": "compute the metrics of a model on a dataset",
    "predict": "label your own images",
    "export": "write a model file as ONNX",
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
    "load_onnx": "minifcn weights convert",
    ": size must be": ": --size must be",
    "minifcn.load reads it": "minifcn train --from takes it",
    "Checkpoints(resume=True)": "minifcn train --resume",
    "batch_size=": "--batch ",
    "accumulate=": "--accumulate ",
    "call freeze_batch_norm(model)": "begin with weights, without --train-batch-norm",
    "train on one rank": "train with one process",
    "with the argument bands": "with --bands of train and check-data",
    "pass bit_depth, or save": "save",
}
"""What messages of the library suggest, and the commands that do the same."""


_LONGEST = 1000  # characters of a message about arguments


def main(argv: Sequence[str] | None = None, *, loaded: Callable[[], object] = lambda: None) -> int:
    """Run a command and return its exit status.

    0: success. 1: finished, but not everything was well, as the output says; or another command uses the
    output. 2: wrong input, full disk, not enough memory, or a fault of minifcn. 130: Ctrl-C. 141: the reader
    of the output, such as `head`, closed it. With MINIFCN_DEBUG=1, the traceback of an error is printed
    before its sentence.

    Args:
        argv: The command and its arguments; by default those of the process.
        loaded: Called when all modules are imported and arguments read, before the command runs.

    Example:
        >>> main(["demo", "--device", "tpu"])
        2
    """
    _open_streams()
    if launched()[0]:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - only rank 0 prints
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv, loaded)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        status = 128 + 13  # as if SIGPIPE had ended it
    except OSError as error:
        status = 2
        with suppress(OSError):
            say(f"minifcn: the output cannot be written: {error.strerror or error}")
    nowhere = os.open(os.devnull, os.O_WRONLY)  # for what Python flushes at its exit
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    return status


def _open_streams() -> None:
    """Connect closed standard streams to nothing, before a file that is opened takes their number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - until the end


def _ranks(command: str) -> AbstractContextManager["Ranks | None"]:
    """Return a context of the processes that an MPI launcher has started, or `None` for a single one."""
    if launched()[1] == 1:
        return nullcontext()
    if command not in ("train", "evaluate"):
        raise ValueError("only train and evaluate share their work among the processes of an MPI launcher")
    from minifcn.training.ranks import Ranks

    return Ranks()


class _Parser(argparse.ArgumentParser):
    """A parser whose messages are printed as all others are."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.color = False  # Python 3.14 would print terminal escapes

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit."""
        super().error(escape(message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"))

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and "--" in arg_strings:  # which argparse would drop
            raise argparse.ArgumentError(action, "expected one argument, got '--'")
        return super()._get_values(action, arg_strings)

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            (show if file is sys.stdout else say)(*message.removesuffix("\n").split("\n"))


def _run(argv: Sequence[str], loaded: Callable[[], object]) -> int:
    parser = _Parser(
        prog="minifcn", description="Fully convolutional networks from scratch, on NumPy and CuPy."
    )
    parser.add_argument("--version", action="version", version=f"minifcn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listed = {name: commands.add_parser(name, help=purpose) for name, purpose in COMMANDS.items()}
    chosen = next((word for word in argv if not word.startswith("-")), "")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            warnings.filterwarnings("ignore", module=r"PIL\.")  # about damaged metadata
            if chosen in listed:
                module = import_module(f"minifcn.cli.{chosen.replace('-', '_')}")
                listed[chosen].set_defaults(run=module.run)
                module.add_arguments(listed[chosen])
            with _ranks(chosen) as ranks:
                arguments = parser.parse_args(argv)
                arguments.ranks = ranks
                loaded()
                if ranks is not None:
                    given = vars(arguments).items()
                    ranks.compare({name: value for name, value in given if name not in ("ranks", "run")})
                return arguments.run(arguments) or 0
    except BrokenPipeError:  # an `OSError`, which `main` handles
        raise
    except KeyboardInterrupt as interrupt:
        say("", str(interrupt) or "stopped")
        return 130
    except Exception as error:  # no traceback reaches a user who has not asked for it
        if os.environ.get("MINIFCN_DEBUG"):
            say(*traceback.format_exc().splitlines())
        command = listed.get(chosen, parser)
        options = {one.dest: one.option_strings[0] for one in command._actions if one.option_strings}
        first, *lines = _description(error, options)
        say(f"{command.prog}: {first}", *lines)
        return 1 if isinstance(error, InUseError) else 2


def _description(error: Exception, options: Mapping[str, str]) -> list[str]:
    """Return the line that says what an error was, and further ones of its own, if it has some."""
    message, lines = str(error), []
    if colors := getattr(error, "colors", None):  # of a `DataError`
        from minifcn.data.errors import class_lines

        lines = class_lines(colors).split("\n")
        message = f"{message.removesuffix(class_lines(colors))}{lines.pop(0)}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        message = f"{error.filename}: {error.strerror}"  # without "[Errno 13]"
    if isinstance(error, MemoryError):
        return [f"not enough memory: {message}"]
    if isinstance(error, ValueError | OSError | ImportError):
        return [for_command_line(message, options), *lines]
    return [f"unexpected {type(error).__name__}: {message}; MINIFCN_DEBUG=1 shows where it comes from"]


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning without the place in the code."""
    say(f"warning: {message}")


def for_command_line(message: str, options: Mapping[str, str]) -> str:
    """Return a message of the library with options and commands in place of arguments and functions.

    Example:
        >>> for_command_line("batch_size must be an integer >= 1, got 0", {"batch_size": "--batch"})
        '--batch must be an integer >= 1, got 0'
    """
    for words, command in _IN_PYTHON.items():
        message = message.replace(words, command)
    found = re.match(r"(\w+)(?= must |: )", message)
    return options[found[1]] + message[found.end() :] if found and found[1] in options else message
