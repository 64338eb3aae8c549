"""The command `dcs-worker schema`: message formats as JSON Schema, examples, AsyncAPI and HTML."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

import schemas

FOLDER: Final = Path(schemas.__file__).parent
EXAMPLES: Final = {
    "request": "request/valid/full.json",
    "succeeded": "event/succeeded_created.json",
    "failed": "event/failed_rejected.json",
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

    Example: dcs-worker schema html > messages.html
    """
    files = {_name(path): path for path in sorted((FOLDER / "json").glob("*.json"))}
    if name is None:
        titles = {name: _title(path) for name, path in files.items()} | COMPLETE_DOCUMENTS
        typer.echo(json.dumps(titles, indent=2) if as_json else _table(titles))
        return
    if name not in files and name not in COMPLETE_DOCUMENTS:
        raise typer.BadParameter(f"unknown schema {name!r}; known: {', '.join((*files, *COMPLETE_DOCUMENTS))}")
    if example and name not in EXAMPLES:
        raise typer.BadParameter(f"no example of {name!r}; there are examples of {', '.join(EXAMPLES)}")
    if name in COMPLETE_DOCUMENTS:
        typer.echo(_complete_document(name), nl=False)
        return
    path = FOLDER / "examples" / EXAMPLES[name] if example else files[name]
    typer.echo(path.read_text("utf-8"), nl=False)


def _complete_document(name: str) -> str:
    text = (FOLDER / "asyncapi.json").read_text("utf-8")
    if name == "asyncapi":
        return text

    from worker.cli.schema_page import page

    return page(json.loads(text))


def _name(path: Path) -> str:
    return path.stem.removeprefix("migration_").replace("_", "-")


def _title(path: Path) -> str:
    return str(json.loads(path.read_text("utf-8")).get("title", ""))


def _table(titles: dict[str, str]) -> str:
    width = max(map(len, titles))
    return "\n".join(f"{name:<{width}}  {title}" for name, title in titles.items())
