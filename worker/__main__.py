"""The command `dcs-worker`."""

import signal
import sys


def main() -> None:
    """Run the command line; `run` alone is started without loading what the other commands need."""
    # Until a command takes care of it, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:] == ["run"]:
        from worker.cli.run import run  # noqa: PLC0415 - start-up time of the one command that has to start fast

        sys.exit(run())
    from worker.cli.app import app  # noqa: PLC0415 - as above

    app(prog_name="dcs-worker")


if __name__ == "__main__":
    main()
