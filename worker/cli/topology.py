"""The command `dcs-worker topology`: prints, declares or checks exchanges, queues and bindings of the settings."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.cli.common import (
    EXIT_CONFIGURATION,
    EXIT_OK,
    Json,
    Management,
    align,
    load_configuration,
    print_json,
    run_and_exit,
    validated_management_url,
)

if TYPE_CHECKING:
    from worker.config import Settings
    from worker.policy.diagnostics import Check
    from worker.rabbit.topology import Topology

Action = Literal["print", "apply", "check"]
Format = Literal["rabbitmq-definitions", "rabbitmq-permissions"]


def topology(
    action: Annotated[
        Action, typer.Argument(help="Print the topology, declare what is missing, or compare it with the broker.")
    ] = "print",
    *,
    as_json: Json = False,
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="Print a file for `rabbitmqctl import_definitions`: the topology, or the least permissions.",
        ),
    ] = None,
    management: Management = None,
) -> None:
    """Print, declare or check exchanges, queues and bindings.

    The settings define them. The worker declares them at its start; `apply` declares them earlier, for example as
    another user. `check` changes nothing.

    Exit status: 0 done, 69 the broker cannot be reached, 78 its topology differs from the settings, or lacks a part.

    Example: dcs-worker topology check
    """
    if format_ is not None and (as_json or action != "print"):
        raise typer.BadParameter("only for `print`, and not with --json: it prints JSON", param_hint="--format")
    if management is not None and action != "check":
        raise typer.BadParameter("only for `check`", param_hint="--management")
    settings = load_configuration().settings

    from worker.bootstrap import components

    plan = components.topology(settings)
    if action == "apply":
        run_and_exit(_apply(settings, plan, as_json=as_json))
    if action == "check":
        base = validated_management_url(management, settings.amqp_url[0].scheme)
        run_and_exit(_check(settings, plan, base, as_json=as_json))
    _print(settings, plan, format_, as_json=as_json)


def _print(settings: "Settings", plan: "Topology", format_: Format | None, *, as_json: bool) -> None:
    if format_ is not None:
        print_json(_importable(settings, plan, format_))
    elif as_json:
        print_json(_as_json(plan))
    else:
        typer.echo(align(_lines(plan)))


def _importable(settings: "Settings", plan: "Topology", format_: Format) -> Mapping[str, Any]:
    from worker.rabbit.tools.broker_access import Node
    from worker.rabbit.tools.definitions import definitions, permissions

    vhost = Node.of(settings.amqp_url[0].get_secret_value()).vhost
    return definitions(plan, vhost) if format_ == "rabbitmq-definitions" else permissions(plan, vhost)


async def _apply(settings: "Settings", plan: "Topology", *, as_json: bool) -> int:
    from worker.bootstrap.components import brokers
    from worker.rabbit.tools.broker_access import open_connection
    from worker.rabbit.topology import TopologyError, declare

    differences: list[str] = []
    refused: list[str] = []
    try:
        async with open_connection(brokers(settings), "dcs-worker topology") as connection:
            refused += await declare(connection, plan)
    except TopologyError as error:
        differences += error.differences
    if as_json:
        print_json({"declared": not differences + refused, "differences": differences, "refused": refused})
    elif differences:
        typer.echo("\n".join(differences), err=True)
    elif refused:
        text = "Not declared, because this user may not; what exists of it was not compared"
        typer.echo(f"{text}: {', '.join(refused)}. Repeat the command as a user with the right.", err=True)
    else:
        counts = f"{len(plan.exchanges)} exchanges, {len(plan.queues)} queues, {len(plan.bindings)} bindings"
        typer.echo(f"Declared: {counts}.")
    return EXIT_CONFIGURATION if differences else EXIT_OK


async def _check(settings: "Settings", plan: "Topology", management: str | None, *, as_json: bool) -> int:
    from worker.bootstrap.components import brokers
    from worker.cli.doctor.report import print_checks
    from worker.rabbit.tools.broker_access import Node, open_connection
    from worker.rabbit.tools.management import check_management
    from worker.rabbit.tools.topology_diff import check_topology, count_ready

    checks: list[Check] = []
    nodes = brokers(settings)
    node = Node.of(nodes.urls[0])
    async with open_connection(nodes, "dcs-worker topology") as connection:
        await check_topology(connection, plan, node, checks.append)
        if management is not None:
            count = partial(count_ready, connection)
            await check_management(management, node, plan, nodes.tls, checks.append, count)
    # Any other failure means that the topology differs from the configuration.
    return print_checks(checks, settings, as_json=as_json, other_failure=EXIT_CONFIGURATION)


def _as_json(plan: "Topology") -> dict[str, list[dict[str, Any]]]:
    return {
        "exchanges": [{"name": item.name, "type": item.type, "durable": True} for item in plan.exchanges],
        "queues": [{"name": item.name, "durable": True, "arguments": item.all_arguments} for item in plan.queues],
        "bindings": [
            {"exchange": item.exchange, "queue": item.queue, "routing_key": item.key} for item in plan.bindings
        ],
    }


def _lines(plan: "Topology") -> Iterator[tuple[str, str, str]]:
    yield from (("exchange", item.name, item.type) for item in plan.exchanges)
    yield from (("binding", item.exchange, f"key {item.key}, to {item.queue}") for item in plan.bindings)
    yield from (("queue", item.name, ", ".join(_queue_traits(item.arguments))) for item in plan.queues)


def _queue_traits(arguments: Mapping[str, Any]) -> Iterator[str]:
    """The arguments of a queue that matter to operators; --json prints all."""
    yield "quorum"
    if "x-delivery-limit" in arguments:
        yield f"delivery limit {arguments['x-delivery-limit']}"
    if "x-message-ttl" in arguments:
        yield f"TTL {arguments['x-message-ttl'] / 1000:g} s"
    if "x-dead-letter-routing-key" in arguments:
        yield f"dead-letters to {arguments['x-dead-letter-routing-key']}"
