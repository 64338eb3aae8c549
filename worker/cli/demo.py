"""The command `dcs-worker demo`: real worker and broker against the fake DCS, with injected faults.

The run is in demo_run.py, which is imported only when the command runs, because its libraries load slowly.
"""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from worker.cli.common import load_configuration, run_interruptible

if TYPE_CHECKING:
    from worker.tools.demo.display import DemoDisplay
    from worker.tools.demo.requests import DemoResult

NEXT_STEPS: Final = (
    "Next: `dcs-worker demo --keep` keeps everything running, to send requests, to inject faults and to fix them; "
    "README.md shows how, and how to use a real cloud."
)


def demo(
    *,
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="Number of requests to send.")] = 200,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Send requests, inject faults, and show the outcome of every request.

    A worker process receives the requests through RabbitMQ and calls the built-in fake DCS.
    The broker is that of WORKER_AMQP_URL if set (exchanges and queues with private names, deleted at the end), else a
    private node, else a container. The demo leaves nothing behind.

    Exit status: 0 every request had the expected outcome and one task, 1 not all had, 69 no broker.

    Example: dcs-worker demo --requests 50
    """
    settings = load_configuration().settings

    from worker.cli.demo_run import DemoRun
    from worker.tools.demo.display import DemoDisplay

    with DemoDisplay(sys.stderr if as_json else sys.stdout) as display:

        def on_result(result: "DemoResult") -> None:
            _print(result, display, is_kept=keep, as_json=as_json)

        demo_run = DemoRun(settings, display, on_result, requests=requests, keep=keep)
        raise typer.Exit(run_interruptible(demo_run.run()))


def _print(result: "DemoResult", display: "DemoDisplay", *, is_kept: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
        return
    display.result(result)
    if not is_kept:
        display.say(NEXT_STEPS)
