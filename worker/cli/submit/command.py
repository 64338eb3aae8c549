"""The command `dcs-worker submit`: its options, input and exit status."""

import sys
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    Json,
    Rate,
    exit_status_of,
    load_configuration,
    run_interruptible,
)
from worker.cli.submit import Format

if TYPE_CHECKING:
    from worker.cli.submit.input_lines import InputValidator, LineError
    from worker.cli.submit.submission import SubmitOptions
    from worker.config import Settings

OPTIONS: Final = {
    "request_id": "--request-id",
    "project_id": "--project",
    "region": "--region",
    "not_after": "--not-after",
    "name": "--name",
    "description": "--description",
    "vpc_id": "--vpc",
    "subnet_id": "--subnet",
    "security_group_id": "--security-group",
}
"""The option for each field of a request or its task."""

STANDARD_INPUT: Final = Path("-")

File = Annotated[Path | None, typer.Argument(metavar="FILE", help="One request per line; - reads standard input.")]
InputFormat = Annotated[
    Format | None, typer.Option("--format", help="Input format (default: by file extension, else jsonl).")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the outcome of each request.")]


def submit(  # noqa: PLR0913 - each argument is an option of the command
    file: File = None,
    *,
    form: InputFormat = None,
    project: Annotated[str | None, typer.Option(help="One request without a file: its project_id.")] = None,
    name: Annotated[str | None, typer.Option(help="Its task's name.")] = None,
    vpc: Annotated[str | None, typer.Option(help="Its task's vpc_id.")] = None,
    subnet: Annotated[str | None, typer.Option(help="Its task's subnet_id.")] = None,
    security_group: Annotated[str | None, typer.Option(help="Its task's security_group_id.")] = None,
    description: Annotated[str | None, typer.Option(help="Its task's description.")] = None,
    region: Annotated[str | None, typer.Option(help="Its region; default: the worker's.")] = None,
    not_after: Annotated[str | None, typer.Option(help="No task is created after this RFC 3339 time.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Its id; default: derived from the content.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Validate only; sends nothing, needs no broker.")] = False,
    rate: Rate = None,
    wait: Wait = False,
    timeout: Annotated[float, typer.Option(min=0, help="With --wait: give up after this many seconds.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Send one request given by options, or every request of a file.

    A file has JSON Lines, CSV with a header line (.csv), or one JSON object (.json). The whole input is validated
    before anything is sent. A request without an id gets the id that a worker derives from its content, so that
    sending a file again, for example after an interruption, creates no second task.

    Exit status: 0 all sent (with --wait: all succeeded), 1 invalid input (with --wait: a request did not succeed),
    2 wrong usage, 69 the broker cannot be reached or did not accept everything, 78 configuration.

    Example: dcs-worker submit requests.csv --rate 50 --wait
    """
    values = (request_id, project, region, not_after, name, description, vpc, subnet, security_group)
    fields = {field: value for field, value in zip(OPTIONS, values, strict=True) if value is not None}
    if bool(fields) == (file is not None):
        raise typer.BadParameter("give either a FILE or the options of one request")
    wait_seconds = None if check or not wait else timeout
    raise typer.Exit(_submit(file, form, fields, rate, wait_seconds, check=check, as_json=as_json))


def _submit(
    file: Path | None,
    form: Format | None,
    fields: Mapping[str, str],
    rate: float | None,
    wait_seconds: float | None,
    *,
    check: bool,
    as_json: bool,
) -> int:
    settings = load_configuration().settings

    from worker.cli.submit import report
    from worker.cli.submit.input_lines import InputValidator
    from worker.cli.submit.submission import Ledger, SubmitOptions

    with closing(Ledger()) as ledger:
        validator = InputValidator(ledger, settings.max_message_bytes, settings.dcs_region)
        _read_input(validator, file, form, fields)
        if not validator.lines:
            typer.echo("Standard input is empty." if file == STANDARD_INPUT else f"{file} is empty.", err=True)
            return EXIT_FAILED
        if validator.invalid_lines:
            report.print_errors(validator, as_json=as_json)
            return EXIT_FAILED
        if check:
            report.print_valid(validator, as_json=as_json)
            return EXIT_OK
        options = SubmitOptions(rate, wait_seconds)
        return run_interruptible(_send(settings, validator, options, as_json=as_json))


def _read_input(validator: "InputValidator", file: Path | None, form: Format | None, fields: Mapping[str, str]) -> None:
    from worker.cli.submit import input_lines

    if file is None:
        validator.add_lines([input_lines.InputLine(1, input_lines.body(fields))])
        if validator.errors:
            raise typer.BadParameter("; ".join(map(_describe_by_option, validator.errors)))
        return
    try:
        with nullcontext(sys.stdin.buffer) if file == STANDARD_INPUT else file.open("rb") as stream:
            validator.add_lines(input_lines.read(stream, form or _format(file), validator.max_bytes))
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror or error}", param_hint="FILE") from None


def _format(file: Path) -> Format:
    match file.suffix.lower():
        case ".csv":
            return "csv"
        case ".json":
            return "json"
        case _:
            return "jsonl"


def _describe_by_option(error: "LineError") -> str:
    return f"{OPTIONS.get(error.field.removeprefix('task.'), error.field)} {error.message}"


async def _send(settings: "Settings", validator: "InputValidator", options: "SubmitOptions", *, as_json: bool) -> int:
    from worker.cli.submit import report
    from worker.cli.submit.submission import Submission

    submission = Submission(settings, validator.ledger, options)
    waits_for_outcomes = options.wait_seconds is not None
    status = EXIT_FAILED
    try:
        status = await exit_status_of(submission.run())
    finally:  # also after a signal
        if status != EXIT_OK:
            report.print_interrupted(validator, submission, as_json=as_json)
    if status != EXIT_OK:
        return status
    report.print_sent(validator, submission, waits_for_outcomes=waits_for_outcomes, as_json=as_json)
    return EXIT_FAILED if waits_for_outcomes and any(validator.ledger.unsuccessful()) else EXIT_OK
