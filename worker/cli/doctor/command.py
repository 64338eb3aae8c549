"""The command `dcs-worker doctor`: its options, report and exit status."""

import logging
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.common import Json, Management, run_interruptible, validated_management_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.cli.doctor.configuration import DoctorOptions
    from worker.config import Configuration
    from worker.policy.diagnostics import Check


def doctor(
    *,
    project: Annotated[
        str | None, typer.Option(help="Project whose tasks are listed, to check the permissions of the credentials.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region of the project; default: WORKER_DCS_REGION.")] = None,
    management: Management = None,
    as_json: Json = False,
) -> None:
    """Check configuration, broker, Redis, DCS and HTTP port. Changes nothing.

    Each failure and warning comes with its remedy: a command, or a variable to set. `not checked` means that a check
    does not apply or is not possible from here. Takes less than a minute, even if nothing can be reached.

    Exit status: 0 no failure (warnings are possible); 78 if the configuration is invalid or the broker's topology
    differs from it; else 69 if a service cannot be reached; else 1.

    Example: dcs-worker doctor --project 0123456789abcdef0123456789abcdef
    """
    from schemas.request import PROJECT_ID_PATTERN
    from worker.cli.doctor.configuration import DoctorOptions, read_configuration
    from worker.cli.doctor.report import print_checks

    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it would repeat the findings
    loaded, has_credentials, checks = read_configuration()
    if loaded is None:
        raise typer.Exit(print_checks(checks, None, as_json=as_json))
    if project is not None and not re.fullmatch(PROJECT_ID_PATTERN, project):
        raise typer.BadParameter("is not a valid project id", param_hint="--project")
    region = region or loaded.settings.dcs_region
    if region not in loaded.settings.dcs_endpoints:
        raise typer.BadParameter(f"region {region!r} is not configured", param_hint="--region")
    management = validated_management_url(management, loaded.settings.amqp_url[0].scheme)
    options = DoctorOptions(project, region, has_credentials, management)
    raise typer.Exit(run_interruptible(_run(loaded, options, checks, as_json=as_json)))


async def _run(loaded: "Configuration", options: "DoctorOptions", checks: "Sequence[Check]", *, as_json: bool) -> int:
    from worker.cli.doctor.report import print_checks
    from worker.cli.doctor.services import run_checks

    if not as_json and sys.stdout.isatty():
        typer.echo("Checking ...", err=True)
    found = await run_checks(loaded, options)
    return print_checks([*checks, *found], loaded.settings, as_json=as_json)
