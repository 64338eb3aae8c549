"""Terminals and files that do not take the output of a command: one sentence at most, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE
from typing import IO

import pytest

ROOT = Path(__file__).parents[3]


def _start(
    *arguments: str, stdout: int | IO[bytes], stderr: int | IO[bytes] = PIPE, **variables: str
) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "latin-1", **variables}
    command = [sys.executable, "-m", "worker", *arguments]
    return subprocess.Popen(command, env=environment, stdin=PIPE, stdout=stdout, stderr=stderr)


def test_terminal_without_a_character_shows_another_one() -> None:
    """ISO-8859-1 has no rocket."""
    with _start("settings", stdout=PIPE, WORKER_IAM_USER="Umzug \N{ROCKET}") as process:
        output, errors = process.communicate()

    assert (process.returncode, errors) == (0, b"")
    assert b"Umzug ?" in output


@pytest.mark.parametrize("arguments", [("schema", "request"), ("topology", "--json"), ("--version",), ("parked", "-h")])
def test_full_disk_behind_standard_output_is_one_sentence(arguments: tuple[str, ...]) -> None:
    """The exit status is 1, whether the output is written at once or when the command ends."""
    with Path("/dev/full").open("wb") as full, _start(*arguments, stdout=full) as process:
        _, errors = process.communicate()

    assert (process.returncode, errors) == (1, b"The output cannot be written: No space left on device.\n")


def test_reader_that_has_had_enough_is_no_error_message() -> None:
    """As with `dcs-worker schema html | head -1`."""
    with _start("schema", "html", stdout=PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate()

    assert errors == b""
    assert process.returncode == 1


def test_full_disk_behind_standard_error_costs_the_message_only() -> None:
    """The exit status is that of the failure."""
    with Path("/dev/full").open("wb") as full, _start("parked", "drop", stdout=PIPE, stderr=full) as process:
        output, _ = process.communicate()

    assert (process.returncode, output) == (1, b"")


@pytest.mark.parametrize(("closed", "arguments"), [(0, ("submit", "-")), (1, ("topology",)), (2, ("parked", "drop"))])
def test_closed_standard_stream_is_an_empty_one(closed: int, arguments: tuple[str, ...]) -> None:
    """As with `>&-`: nothing can be read there, what is written there is gone; the exit status stays."""
    shell = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", sys.executable, "-m", "worker", *arguments]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(shell, env=environment, input=b"", capture_output=True, check=False)

    assert (done.returncode, done.stdout) == ({0: 1, 1: 0, 2: 2}[closed], b"")
    assert done.stderr == (b"Standard input is empty.\n" if closed == 0 else b"")
