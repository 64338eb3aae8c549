"""The command `dcs-worker`."""

import sys


def main() -> None:
    """Run the command line; `run` alone is started without loading what the other commands need."""
    if sys.argv[1:] == ["run"]:
        from worker.cli.run import run  # noqa: PLC0415 - start-up time of the one command that has to start fast

        sys.exit(run())
    from worker.cli.app import app  # noqa: PLC0415 - as above

    app()


if __name__ == "__main__":
    main()
