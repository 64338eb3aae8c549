"""The command line `dcs-worker` with all its commands; a command imports its libraries only when it runs."""

from typing import Annotated

import typer

from worker import __version__
from worker.cli.common import TYPER_SETTINGS, add_command, load_configuration, run_interruptible
from worker.cli.doctor.command import doctor
from worker.cli.explain import explain
from worker.cli.parked.commands import parked
from worker.cli.schema import schema
from worker.cli.settings import settings
from worker.cli.simulate import simulate
from worker.cli.submit.command import submit
from worker.cli.topology import topology

# Pretty exceptions would print local variables, secrets among them.
app = typer.Typer(name="dcs-worker", pretty_exceptions_enable=False, **TYPER_SETTINGS)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"dcs-worker {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: dcs-worker demo")
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Create DCS online data migration tasks from requests on RabbitMQ, exactly one per request.

    Settings are environment variables WORKER_...; `dcs-worker settings` prints them.

    Exit status: 0 done, 1 failed, 2 wrong usage, 69 a service cannot be reached, 78 configuration.

    """


def run() -> None:
    """Consume requests until SIGTERM or Ctrl-C, then drain.

    Draining finishes the requests in flight and requeues the rest. A second signal ends the process at once.

    The settings that matter most: WORKER_AMQP_URL, WORKER_DCS_REGION, credentials (for example WORKER_ACCESS_KEY and
    WORKER_SECRET_KEY), WORKER_CLAIMS_URL with several replicas, WORKER_HTTP_PORT. `dcs-worker settings` prints all,
    `dcs-worker doctor` checks them.

    Exit status: 0 drained, 69 no broker connection for WORKER_BROKER_PATIENCE seconds, 78 configuration.

    Example: WORKER_AUTH_TOKEN=... dcs-worker run
    """
    from worker.cli.run import run as run_worker

    raise typer.Exit(run_worker())


def demo(
    *,
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="Number of requests to send.")] = 200,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running until Ctrl-C.")] = False,
    broker: Annotated[str | None, typer.Option(metavar="URL", help="Use this broker, not a private one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Send requests, inject faults, and show every outcome.

    A worker process receives the requests through RabbitMQ and calls the built-in fake DCS.
    The broker is a private node, else a container; with --broker it is the one at URL (exchanges and queues with
    private names, deleted at the end). The demo leaves nothing behind.

    Exit status: 0 every request had the expected outcome and one task, 1 not all had, 69 no broker.

    Example: dcs-worker demo --requests 50
    """
    given = load_configuration(amqp_url=broker).settings if broker else None

    from worker.cli.demo import DemoRun

    raise typer.Exit(run_interruptible(DemoRun(given, requests, keep, as_json).run()))


for command in (run, demo, doctor, settings, submit, explain, simulate, topology, schema):
    add_command(app, command)
app.add_typer(parked)
