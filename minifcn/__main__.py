"""The command `minifcn`, and `python -m minifcn`: from its first line on, Ctrl-C gives no traceback."""

import os
import sys


def _end(*_: object) -> None:
    os._exit(130)


try:
    import signal

    # Where it is ignored, as in the background of a script, it stays so.
    handles_interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if handles_interrupts:
        signal.signal(signal.SIGINT, _end)  # an exception in an import would be a traceback, or another error
    from minifcn.cli import main as run_command
except KeyboardInterrupt:
    _end()


def main() -> int:
    """Run the command that `sys.argv` names, and return its exit status."""
    os.environ.pop("MPLBACKEND", None)  # figures are written to files, and Matplotlib refuses unknown names
    before = sys.unraisablehook

    def hook(error: "sys.UnraisableHookArgs") -> None:
        """End after Ctrl-C in a function whose exceptions are lost, such as `__del__`."""
        if error.exc_type is KeyboardInterrupt:
            _end()
        before(error)

    def loaded() -> None:
        if handles_interrupts:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        sys.unraisablehook = hook
        status = run_command(loaded=loaded)
        if handles_interrupts:
            signal.signal(signal.SIGINT, _end)  # while Python ends
        return status
    except KeyboardInterrupt:
        _end()
        raise


if __name__ == "__main__":
    sys.exit(main())
