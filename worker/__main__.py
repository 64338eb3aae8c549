"""The command `dcs-worker`.

Short on purpose: it decides what is imported.
"""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line; `run` alone is started without loading what the other commands need."""
    _prepare_process()
    if sys.argv[1:] == ["run"]:
        from worker.cli.run import run  # noqa: PLC0415 - start-up time of the one command that has to start fast

        sys.exit(run())
    from worker.cli.app import app  # noqa: PLC0415 - as above
    from worker.cli.common import run_command_line  # noqa: PLC0415 - as above

    run_command_line(lambda: app(prog_name="dcs-worker"))


def _prepare_process() -> None:
    # Until a command takes care of it, Ctrl-C ends the process without a traceback; and SIGTERM, which the kernel
    # would keep from a container's first process, ends it as what it is then: drained.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    # Started with a closed standard stream, the next file or socket would take its place.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        with suppress(OSError):
            os.fstat(number)
            continue
        setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))  # Python has set it to None


if __name__ == "__main__":
    main()
