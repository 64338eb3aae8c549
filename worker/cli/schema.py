"""The command `dcs-worker schema`: message formats as JSON Schema, examples, AsyncAPI, and an HTML page of them all."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

import schemas
from schemas.html_page import page
from worker.cli.common import align, load_configuration, print_json

FOLDER: Final = Path(schemas.__file__).parent
SCHEMAS: Final = FOLDER / "json"
EXAMPLES: Final = {
    "request": "request/valid/full.json",
    "succeeded": "event/succeeded_created.json",
    "failed": "event/failed_rejected.json",
    "provisioned": "event/provisioned_task.json",
    "provisioning-failed": "event/provisioning_failed_task_failed.json",
    "journal": "journal/retried.json",
    "dcs-create-body": "dcs/create_body_with_marker.json",
    "dcs-create-reply": "dcs/create_reply_with_job_id.json",
    "dcs-error": "dcs/error_dcs_v2.json",
}
COMPLETE_DOCUMENTS: Final = {
    "asyncapi": "All messages, queues and exchanges: AsyncAPI 3.0",
    "html": "All messages, queues and exchanges: HTML page",
}


def schema(
    name: Annotated[
        str | None, typer.Argument(help="Name of a schema; without it all are listed.", show_default=False)
    ] = None,
    *,
    example: Annotated[bool, typer.Option("--example", help="Print an example instead of the schema.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON; a schema is always JSON.")] = False,
) -> None:
    """Print the JSON Schema of a message, an example, or all messages as AsyncAPI or HTML.

    Names of queues, exchanges and virtual host are those of the settings.

    Example: dcs-worker schema html > messages.html
    """
    files = {path.stem.removeprefix("migration_").replace("_", "-"): path for path in sorted(SCHEMAS.glob("*.json"))}
    summaries = {name: _first_sentence(path) for name, path in files.items()} | COMPLETE_DOCUMENTS
    if name is None:
        if as_json:
            print_json(summaries)
        else:
            typer.echo(align(summaries.items()))
        return
    if name not in summaries:
        raise typer.BadParameter(f"unknown schema {name!r}; known: {', '.join(summaries)}")
    if example and name not in EXAMPLES:
        raise typer.BadParameter(f"no example of {name!r}; there are examples of {', '.join(EXAMPLES)}")
    if name in COMPLETE_DOCUMENTS:
        typer.echo(_complete_document(name), nl=False)
    else:
        path = FOLDER / "examples" / EXAMPLES[name] if example else files[name]
        typer.echo(path.read_text("utf-8"), nl=False)


def _complete_document(name: str) -> str:
    from schemas.asyncapi import BrokerNames, document
    from schemas.generate import render
    from worker.rabbit.tools.broker_access import Node

    settings = load_configuration().settings
    vhost = Node.of(settings.amqp_url[0].get_secret_value()).vhost
    content = document(BrokerNames(settings.queue, settings.request_exchange, settings.event_exchange, vhost))
    return page(content) if name == "html" else render(content)


def _first_sentence(path: Path) -> str:
    description = str(json.loads(path.read_text("utf-8"))["description"])
    return description.partition(". ")[0].removesuffix(".")
