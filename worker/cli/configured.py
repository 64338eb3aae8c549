"""The configuration, for commands."""

import logging
from typing import TYPE_CHECKING

import typer

from worker.cli.statuses import CONFIGURATION

if TYPE_CHECKING:
    from worker.config import Loaded


def configured(*, credentials: bool = False) -> "Loaded":
    """The configuration of this process; ends the command with its problems, one per line, if it has any.

    `credentials` says whether the command calls DCS; most speak with the broker only.
    """
    from worker.config import ConfigurationError, load_from_process

    # The AMQP library logs what a command says anyway, in one sentence and after it has tried every node.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        loaded = load_from_process(credentials=credentials)
    except ConfigurationError as error:
        for problem in error.lines:
            typer.echo(problem, err=True)
        raise typer.Exit(CONFIGURATION) from None
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return loaded
