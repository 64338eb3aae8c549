"""`dcs-worker demo`: the whole product at work, on servers of its own, in some seconds."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.common import load_configuration, run_interruptible

if TYPE_CHECKING:
    from worker.tools.demo.display import Display
    from worker.tools.demo.tally import Result

NEXT_STEPS: Final = (
    "Look next: `dcs-worker demo --keep` leaves all of it running, to send requests to, to break and to mend; "
    "README.md shows how, and the way to a real cloud."
)


def demo(
    *,
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="How many requests to send.")] = 200,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running until Ctrl-C, to look at.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show what becomes of requests that meet faults on their way.

    A real worker process gets them through a real RabbitMQ and works against the built-in stand-in for DCS.
    The broker is the one of WORKER_AMQP_URL if that is set (under names of the demo's own, which are removed again),
    else a private node, else a container. Nothing is left behind.

    Exit status: 0 if every request was answered as expected, with one task each, else 1; 69 if there is no broker.

    Example: dcs-worker demo --requests 50
    """
    settings = load_configuration().settings

    from worker.cli.demo_run import DemoRun
    from worker.tools.demo.display import Display

    with Display(sys.stderr if as_json else sys.stdout) as display:

        def on_result(result: "Result") -> None:
            _print(result, display, is_kept=keep, as_json=as_json)

        demo_run = DemoRun(settings, display, on_result, requests=requests, keep=keep)
        raise typer.Exit(run_interruptible(demo_run.run()))


def _print(result: "Result", display: "Display", *, is_kept: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
        return
    display.result(result)
    if not is_kept:
        display.say(NEXT_STEPS)
