"""`dcs-worker topology`: what the worker needs on the broker, printed, declared or compared."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.cli.common import EXIT_CONFIGURATION, EXIT_OK, EXIT_UNAVAILABLE, load_configuration, run_interruptible

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.rabbit.topology import Topology

Action = Literal["print", "apply", "check"]
Format = Literal["rabbitmq-definitions", "rabbitmq-permissions"]


def topology(
    action: Annotated[
        Action, typer.Argument(help="Print it, declare what is missing, or compare what is there.")
    ] = "print",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON.")] = False,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Print what `rabbitmqctl import_definitions` reads: the topology, or the least rights of its users.",
        ),
    ] = None,
) -> None:
    """Print, declare or check what the worker needs on the broker.

    These are the exchanges, queues and bindings that the settings ask for. The worker declares them at its start;
    `apply` does the same ahead of it, with another user for example. `check` changes nothing.

    Exit status: 0 done, 69 the broker cannot be reached, 78 what is there differs from what the settings ask for, or,
    for `check`, is missing.

    Example: dcs-worker topology check
    """
    if format_ is not None and (as_json or action != "print"):
        raise typer.BadParameter("a format is that of what is printed, and JSON as it is", param_hint="--format")
    settings = load_configuration().settings

    from worker.bootstrap import from_settings

    plan = from_settings.topology(settings)
    if action == "apply":
        raise typer.Exit(run_interruptible(_apply(settings, plan, as_json=as_json)))
    if action == "check":
        from worker.cli.topology_check import check

        raise typer.Exit(run_interruptible(check(settings, plan, as_json=as_json)))
    if format_ is not None:
        typer.echo(json.dumps(_importable(settings, plan, format_), indent=2))
        return
    typer.echo(json.dumps(_as_json(plan), indent=2) if as_json else _table(plan))


async def _apply(settings: "Settings", plan: "Topology", *, as_json: bool) -> int:
    from worker.bootstrap import from_settings
    from worker.rabbit.reach import UnreachableError, reached
    from worker.rabbit.topology import TopologyError, declare

    differences: Sequence[str] = ()
    try:
        async with reached(from_settings.brokers(settings), "dcs-worker topology") as connection:
            await declare(connection, plan)
    except TopologyError as error:
        differences = error.differences
    except UnreachableError as error:
        typer.echo(str(error), err=True)
        return EXIT_UNAVAILABLE
    if as_json:
        typer.echo(json.dumps({"declared": not differences, "differences": list(differences)}, indent=2))
    elif not differences:
        typer.echo(f"Declared: {len(plan.exchanges)} exchanges, {len(plan.queues)} queues and what binds them.")
    for difference in () if as_json else differences:
        typer.echo(difference, err=True)
    return EXIT_CONFIGURATION if differences else EXIT_OK


def _importable(settings: "Settings", plan: "Topology", format_: Format) -> Mapping[str, Any]:
    from worker.rabbit.checks import Node
    from worker.rabbit.definitions import definitions, permissions

    vhost = Node.of(settings.amqp_url[0].get_secret_value()).vhost
    return definitions(plan, vhost) if format_ == "rabbitmq-definitions" else permissions(plan, vhost)


def _as_json(plan: "Topology") -> dict[str, list[dict[str, Any]]]:
    return {
        "exchanges": [{"name": one.name, "type": one.type, "durable": True} for one in plan.exchanges],
        "queues": [{"name": one.name, "durable": True, "arguments": one.all_arguments} for one in plan.queues],
        "bindings": [{"exchange": one.exchange, "queue": one.queue, "routing_key": one.key} for one in plan.bindings],
    }


def _table(plan: "Topology") -> str:
    exchanges = [("exchange", one.name, one.type) for one in plan.exchanges]
    bindings = [("binding", one.exchange, f"key {one.key}, to {one.queue}") for one in plan.bindings]
    queues = [("queue", one.name, ", ".join(_queue_traits(one.arguments))) for one in plan.queues]
    rows = [*exchanges, *bindings, *queues]
    width = max(len(name) for _, name, _ in rows)
    return "\n".join(f"{kind:<9} {name:<{width}}  {rest}" for kind, name, rest in rows)


def _queue_traits(arguments: Mapping[str, Any]) -> Iterator[str]:
    """What a person wants to know of a queue; all arguments are in the JSON."""
    yield "quorum"
    if "x-delivery-limit" in arguments:
        yield f"delivery limit {arguments['x-delivery-limit']}"
    if "x-message-ttl" in arguments:
        yield f"after {arguments['x-message-ttl'] / 1000:g} s"
    if "x-dead-letter-routing-key" in arguments:
        yield f"to {arguments['x-dead-letter-routing-key']}"
