"""The command `dcs-worker submit`: its options, input and exit status."""

import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.common import EXIT_FAILED, EXIT_OK, Json, Rate, fail, load_configuration, run_interruptible
from worker.cli.submit import Format

if TYPE_CHECKING:
    from worker.cli.submit.ledger import InputValidator

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

# A workbook is none of them, but the error of a table says how to save it.
FORMATS_BY_SUFFIX: Final[dict[str, Format]] = {
    ".json": "json",
    **dict.fromkeys((".csv", ".tsv", ".xlsx", ".xls", ".ods"), "csv"),
}
STANDARD_INPUT: Final = Path("-")

File = Annotated[Path | None, typer.Argument(metavar="FILE", help="A file of requests; - reads standard input.")]
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
    region: Annotated[str | None, typer.Option(help="Its region; default: WORKER_DCS_REGION.")] = None,
    not_after: Annotated[str | None, typer.Option(help="No task is created after this RFC 3339 time.")] = None,
    request_id: Annotated[str | None, typer.Option(help="Its id; default: derived from the content.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Validate only; sends nothing, needs no broker.")] = False,
    rate: Rate = None,
    wait: Wait = False,
    timeout: Annotated[float, typer.Option(min=0, help="With --wait: give up after this many seconds.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Send one request given by options, or every request of a file.

    A file has JSON Lines, CSV with a header line (.csv, .tsv; comma, semicolon or tab), or one JSON object or an
    array of them (.json). The whole input is validated before anything is sent. A request without an id gets the id
    that a worker derives from its content, and the region that is part of it (WORKER_DCS_REGION), so that sending a
    file again, for example after an interruption, creates no second task.

    Exit status: 0 all sent (with --wait: all succeeded), 1 invalid input (with --wait: a request did not succeed),
    2 wrong usage, 69 the broker cannot be reached or did not accept everything, 78 configuration.

    Example: dcs-worker submit requests.csv --rate 50 --wait
    """
    values = (request_id, project, region, not_after, name, description, vpc, subnet, security_group)
    fields = {field: value for field, value in zip(OPTIONS, values, strict=True) if value is not None}
    if bool(fields) == (file is not None):
        raise typer.BadParameter("give either a FILE or the options of one request")
    wait_seconds = timeout if wait else None
    raise typer.Exit(_submit(file, form, fields, rate, wait_seconds, check=check, as_json=as_json))


def _submit(
    file: Path | None,
    form: Format | None,
    fields: dict[str, str],
    rate: float | None,
    wait_seconds: float | None,
    *,
    check: bool,
    as_json: bool,
) -> int:
    settings = load_configuration().settings

    from worker.cli.submit.ledger import InputValidator, Ledger
    from worker.cli.submit.submission import Submission, print_validation

    with closing(Ledger()) as ledger:
        validator = InputValidator(ledger, settings.max_message_bytes, settings.dcs_region)
        if file is None:
            _read_options(validator, fields)
        else:
            form = form or FORMATS_BY_SUFFIX.get(file.suffix.lower(), "jsonl")
            _read_file(validator, file, form)
        if not validator.lines:
            return fail("Standard input is empty." if file == STANDARD_INPUT else f"{file} is empty.")
        if check or validator.invalid_lines:
            print_validation(validator, form, as_json=as_json)
            return EXIT_FAILED if validator.invalid_lines else EXIT_OK
        return run_interruptible(Submission(settings, validator, rate, wait_seconds).run(as_json=as_json))


def _read_options(validator: "InputValidator", fields: dict[str, str]) -> None:
    from worker.cli.submit.input_lines import InputLine, body

    validator.add_lines([InputLine(1, body(fields), is_flat=True)])
    if validator.errors:
        problems = (f"{OPTIONS.get(error.field, error.field)} {error.message}" for error in validator.errors)
        raise typer.BadParameter("; ".join(problems))


def _read_file(validator: "InputValidator", file: Path, form: Format) -> None:
    from worker.cli.submit.input_lines import read

    try:
        with nullcontext(sys.stdin.buffer) if file == STANDARD_INPUT else file.open("rb") as stream:
            validator.add_lines(read(stream, form, validator.max_bytes))
    except OSError as error:
        raise typer.BadParameter(f"cannot read {file}: {error.strerror or error}", param_hint="FILE") from None
