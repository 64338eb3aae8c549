"""`dcs-worker submit`: requests sent as an upstream service sends them."""

import sys
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.common import (
    EXIT_CONFIGURATION,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    load_configuration,
    run_interruptible,
)
from worker.cli.submit import Format

if TYPE_CHECKING:
    from worker.cli.submit.submission import SubmitOptions
    from worker.cli.submit.validation import InputValidator, LineError
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
"""By field of the request or its task: the option that gives it."""

STANDARD_INPUT: Final = Path("-")


def submit(  # noqa: PLR0913 - each argument is an option of the command
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="One request per line; - is standard input.")
    ] = None,
    *,
    form: Annotated[
        Format | None, typer.Option("--format", help="What FILE is; else the end of its name says, else jsonl.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="One request without a file: its project_id.")] = None,
    name: Annotated[str | None, typer.Option(help="Its task's name.")] = None,
    vpc: Annotated[str | None, typer.Option(help="Its task's vpc_id.")] = None,
    subnet: Annotated[str | None, typer.Option(help="Its task's subnet_id.")] = None,
    security_group: Annotated[str | None, typer.Option(help="Its task's security_group_id.")] = None,
    description: Annotated[str | None, typer.Option(help="Its task's description.")] = None,
    region: Annotated[str | None, typer.Option(help="Its region; else the worker's default.")] = None,
    not_after: Annotated[str | None, typer.Option(help="Nothing is created after this RFC 3339 time.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Its identity; else derived from the content.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check; send nothing, need no broker.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.01, help="At most so many a second.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the events until each request has its outcome.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait so, once all is sent.")] = 3600.0,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Send one request given by options, or every request of a file.

    All of it is checked before anything is sent. A file has JSON Lines, or columns (.csv), or one JSON object (.json).
    A request without an id gets the one that a worker would derive from its content, so the same line is the same
    request: sending a file again, after a break for example, creates nothing twice.

    Exit status: 0 all sent (with --wait: all succeeded), 1 a line is no request (with --wait: one did not succeed),
    2 wrong usage, 69 the broker cannot be reached or did not take everything, 78 configuration.

    Example: dcs-worker submit requests.csv --rate 50 --wait
    """
    given = {
        "request_id": request_id,
        "project_id": project,
        "region": region,
        "not_after": not_after,
        "name": name,
        "description": description,
        "vpc_id": vpc,
        "subnet_id": subnet,
        "security_group_id": security_group,
    }
    fields = {field: value for field, value in given.items() if value is not None}
    if bool(fields) == (file is not None):
        raise typer.BadParameter("give either a FILE or the options of one request")
    settings = load_configuration().settings

    from worker.cli.submit import report
    from worker.cli.submit.ledger import Ledger
    from worker.cli.submit.submission import SubmitOptions
    from worker.cli.submit.validation import InputValidator

    with closing(Ledger()) as ledger:
        validator = InputValidator(ledger, settings.max_message_bytes, settings.dcs_region)
        _read_input(validator, file, form, fields)
        if not validator.lines:
            typer.echo(f"There is no request in {file}.", err=True)
            raise typer.Exit(EXIT_FAILED)
        if validator.invalid_lines:
            report.print_errors(validator, as_json=as_json)
            raise typer.Exit(EXIT_FAILED)
        if check:
            report.print_valid(validator, as_json=as_json)
            raise typer.Exit(EXIT_OK)
        options = SubmitOptions(rate, timeout if wait else None)
        raise typer.Exit(run_interruptible(_send(settings, validator, options, as_json=as_json)))


def _read_input(validator: "InputValidator", file: Path | None, form: Format | None, fields: Mapping[str, str]) -> None:
    from worker.cli.submit import file_formats

    if file is None:
        validator.add_lines([file_formats.InputLine(1, file_formats.body(fields))])
        if validator.errors:
            raise typer.BadParameter("; ".join(map(_describe_by_option, validator.errors)))
        return
    try:
        with nullcontext(sys.stdin.buffer) if file == STANDARD_INPUT else file.open("rb") as stream:
            validator.add_lines(file_formats.read(stream, form or _format(file), validator.max_bytes))
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror or error}", param_hint="FILE") from None


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
    from worker.config import ConfigurationError
    from worker.rabbit.follower import FollowError
    from worker.rabbit.reach import UnreachableError
    from worker.rabbit.sender import SendError

    submission = Submission(settings, validator.ledger, options)
    waits_for_outcomes = options.wait_seconds is not None
    is_done = False
    try:
        await submission.run()
        is_done = True
    except (UnreachableError, SendError, FollowError) as error:
        typer.echo(str(error), err=True)
        return EXIT_UNAVAILABLE
    except ConfigurationError as error:
        for problem in error.lines:
            typer.echo(problem, err=True)
        return EXIT_CONFIGURATION
    finally:
        if not is_done:
            report.print_interrupted(validator, submission, as_json=as_json)
    report.print_sent(validator, submission, waits_for_outcomes=waits_for_outcomes, as_json=as_json)
    return EXIT_FAILED if waits_for_outcomes and any(validator.ledger.unsuccessful()) else EXIT_OK
