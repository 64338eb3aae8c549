"""The command `dcs-worker explain`: prints the timeline of a request, or what is known of it without one.

Sources: the parked queue, then the records in Redis and the tasks in DCS; or the next event.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.common import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    Json,
    fail,
    load_configuration,
    output_width,
    print_json,
    printable,
    run_and_exit,
    wrap,
)

if TYPE_CHECKING:
    from worker.cli.parked.timeline import RequestTimeline
    from worker.cli.request_sources import Sought, Source
    from worker.config import Settings
    from worker.rabbit.tools.event_stream import Event


def explain(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Request id.")],
    *,
    project: Annotated[
        str | None, typer.Option(help="Project of the request: without it only the parked queue is asked.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region of the request; default: WORKER_DCS_REGION.")] = None,
    listen: Annotated[
        bool, typer.Option("--listen", help="Wait for the next event of the request or its task.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to listen.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Print the timeline of one request.

    It lists calls with their results, waits with their reasons, and interrupted deliveries.

    Source: the parked request. If it is not parked, or the broker is away, and --project is given: the outcome or claim
    in Redis, and the task with its marker in DCS; the output says which sources were asked. Nothing is created. With
    --listen the source is the next event.

    Exit status: 0 printed, 1 no such request or event, 69 a service cannot be reached, 78 configuration.

    Example: dcs-worker explain 4f6f2a34-9f0e-4a52-8a39-6f2c3c1d3f10 --project 0123456789abcdef0123456789abcdef
    """
    settings = load_configuration().settings
    if (project or region) and listen:
        raise typer.BadParameter("cannot be combined with --listen", param_hint="--project and --region")
    if listen:
        run_and_exit(_explain_next_event(settings, identity, timeout, as_json=as_json))
    run_and_exit(_explain_request(_sought(settings, identity, project, region), as_json=as_json))


def _sought(settings: "Settings", identity: str, project: str | None, region: str | None) -> "Sought":
    from schemas.request import PROJECT_ID_PATTERN
    from worker.cli.request_sources import Sought

    if project is not None and not re.fullmatch(PROJECT_ID_PATTERN, project):
        raise typer.BadParameter("is not a valid project id", param_hint="--project")
    if region is not None and (project is None or region not in settings.dcs_endpoints):
        raise typer.BadParameter("must be a configured region, and needs --project", param_hint="--region")
    return Sought(settings, identity, project, region or settings.dcs_region)


def _print_timelines(timelines: "Sequence[RequestTimeline]", *, as_json: bool) -> int:
    from worker.cli.parked.timeline import render_timeline

    if as_json:
        print_json([timeline.as_json() for timeline in timelines])
    else:
        typer.echo("\n\n".join(map(render_timeline, timelines)))
    return EXIT_OK


async def _explain_request(sought: "Sought", *, as_json: bool) -> int:
    """Print what is known of the request; the exit status."""
    from worker.cli.parked.request import parked_queue, read_with_id
    from worker.cli.parked.timeline import RequestTimeline, timeline_of_parked
    from worker.cli.request_sources import Source, other_sources
    from worker.rabbit.tools.broker_access import BrokerError

    sources = [Source("parked queue", "not found", "no such request")]
    try:
        async with parked_queue(sought.settings) as queue:
            if found := await read_with_id(queue, sought.settings, sought.identity):
                return _print_timelines([timeline_of_parked(request) for request in found], as_json=as_json)
    except BrokerError as error:
        sources = [Source("parked queue", "failed", str(error))]
    timeline = RequestTimeline(sought.sender, "not known", None, ())
    async for source, known in other_sources(sought):
        sources.append(source)
        if known is not None and timeline.state == "not known":
            timeline = known
    if as_json:
        print_json([{**timeline.as_json(), "sources": [asdict(source) for source in sources]}])
    else:
        typer.echo("\n".join(_lines(timeline, sources)))
    states = {source.state for source in sources}
    return EXIT_OK if "found" in states else EXIT_UNAVAILABLE if "failed" in states else EXIT_FAILED


def _lines(timeline: "RequestTimeline", sources: "Sequence[Source]") -> Iterator[str]:
    from worker.cli.parked.timeline import identity_lines, label, render_steps

    known = [line for line in identity_lines(timeline.sender) if timeline.steps or "not readable" not in line]
    yield from (*known, label("state", timeline.state), "")
    if timeline.steps:
        yield from (render_steps(timeline), "")
    width = max(len(source.name) for source in sources)
    for source in sources:
        lead = f"{source.state:<11}{source.name:<{width}}  "
        first, *rest = wrap(printable(source.text.replace("\n", " ")), output_width() - len(lead))
        yield from (lead + first, *(" " * len(lead) + line for line in rest))


async def _explain_next_event(settings: "Settings", identity: str, timeout: float, *, as_json: bool) -> int:
    from schemas.event import KEYS
    from worker.bootstrap.components import brokers
    from worker.rabbit.tools.broker_access import open_connection
    from worker.rabbit.tools.event_stream import open_event_stream

    async with (
        open_connection(brokers(settings), "dcs-worker explain") as connection,
        open_event_stream(connection, settings.event_exchange, tuple(KEYS.values())) as events,
    ):
        typer.echo(f"Listening for the event of {identity!r} ...", err=True)
        try:
            async with asyncio.timeout(timeout):
                while (timeline := _timeline_if_of(identity, await anext(events))) is None:
                    pass
        except TimeoutError:
            missing = f"No event of {identity!r} within {timeout:g} s"
            return fail(f"{missing}; send the request again, then its event is repeated.")
    return _print_timelines([timeline], as_json=as_json)


def _timeline_if_of(identity: str, event: "Event") -> "RequestTimeline | None":
    from worker.cli.parked.timeline import timeline_of_event_body

    try:
        timeline = timeline_of_event_body(event.body, event.headers)
    except ValueError:
        return None  # not an event of the worker
    return timeline if identity in (timeline.sender.request_id, event.correlation_id) else None
