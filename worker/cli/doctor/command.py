"""`dcs-worker doctor`: what stands between this configuration and a working worker, with the remedy of each."""

import logging
import re
import sys
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from worker.cli.common import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE, run_interruptible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.cli.doctor.options import DoctorOptions
    from worker.config import Loaded
    from worker.policy.diagnostics import Check


def doctor(
    *,
    project: Annotated[
        str | None, typer.Option(help="Project to list the tasks of, which shows what the credentials may do.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region of the project; WORKER_DCS_REGION if not given.")] = None,
    management: Annotated[
        str | None,
        typer.Option(
            help="Base URL of RabbitMQ's management API, for bindings and policies; the login is the broker's."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
) -> None:
    """Check all that a worker needs: configuration, broker, Redis, DCS, port. It changes nothing anywhere.

    Each finding comes with its remedy: a command, or a variable to set. What is `not checked` does not apply, or
    cannot be told from here. With everything unreachable it takes less than a minute.

    Exit status: 0 nothing failed, though there may be warnings; 78 if the configuration, or what it asks of the
    broker, does not fit; else 69 if a service cannot be reached; else 1.

    Example: dcs-worker doctor --project 0123456789abcdef0123456789abcdef
    """
    from schemas.request import PROJECT_ID_PATTERN
    from worker.cli.doctor import configuration
    from worker.cli.doctor.options import DoctorOptions

    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # the findings say what it says, in one sentence each
    loaded, has_credentials, checks = configuration.read_configuration()
    if loaded is None:
        raise typer.Exit(_print_report(checks, None, as_json=as_json))
    if project is not None and not re.fullmatch(PROJECT_ID_PATTERN, project):
        raise typer.BadParameter("is no project id", param_hint="--project")
    region = region or loaded.settings.dcs_region
    if region not in loaded.settings.dcs_endpoints:
        raise typer.BadParameter(f"{region!r} is none of the configured regions", param_hint="--region")
    options = DoctorOptions(
        project, region, has_credentials, _validated_management_url(management, loaded.settings.amqp_url[0].scheme)
    )
    raise typer.Exit(run_interruptible(_run(loaded, options, checks, as_json=as_json)))


def _validated_management_url(management: str | None, broker_scheme: str) -> str | None:
    """The URL without a slash at the end. The broker's password goes there, so it is no less encrypted than there."""
    if management is None:
        return None
    schemes = ("https",) if broker_scheme == "amqps" else ("https", "http")
    try:
        parts = urlsplit(management)
        is_usable = parts.scheme in schemes and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        is_usable = False
    if not is_usable:
        message = f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}, without a login"
        raise typer.BadParameter(message, param_hint="--management")
    return management.rstrip("/")


async def _run(loaded: "Loaded", options: "DoctorOptions", checks: "Sequence[Check]", *, as_json: bool) -> int:
    from worker.cli.doctor.run_checks import run_checks

    if not as_json and sys.stdout.isatty():
        typer.echo("Checking ...", err=True)
    found = await run_checks(loaded, options)
    return _print_report([*checks, *found], loaded, as_json=as_json)


def _print_report(checks: "Sequence[Check]", loaded: "Loaded | None", *, as_json: bool) -> int:
    from worker.cli.doctor.redaction import redact_checks
    from worker.cli.doctor.report import print_json, print_table

    status = _exit_status(checks)
    redacted = redact_checks(checks, loaded.settings if loaded is not None else None)
    if as_json:
        print_json(redacted, status)
    else:
        print_table(redacted)
    return status


def _exit_status(checks: "Sequence[Check]") -> int:
    from worker.policy.diagnostics import FailureKind, most_urgent_failure

    statuses = {
        FailureKind.CONFIGURATION: EXIT_CONFIGURATION,
        FailureKind.UNREACHABLE: EXIT_UNAVAILABLE,
        FailureKind.WRONG: EXIT_FAILED,
    }
    kind = most_urgent_failure(checks)
    return EXIT_OK if kind is None else statuses[kind]
