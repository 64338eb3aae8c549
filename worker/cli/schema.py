"""The command `dcs-worker schema`: message formats as JSON Schema, examples, AsyncAPI, and one HTML page of them all.

The page has no external parts, and is readable on a phone.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Annotated, Any, Final

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

Document = Mapping[str, Any]

_STYLE: Final = Path(__file__).with_suffix(".css")
_CODE: Final = re.compile(r"`([^`]+)`")
_RULES: Final = (
    ("const", "always {}"),
    ("pattern", "must match {}"),
    ("maxLength", "at most {} characters"),
    ("minimum", "at least {}"),
)
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}: messages</title>
<style>{style}</style>
</head>
<body>
<h1>{title} <small>messages, version {version}</small></h1>
{about}
<h2>What the worker does</h2>
{operations}
<h2>Messages</h2>
{messages}
<h2>JSON in headers</h2>
<article id="journal"><h3>x-journal</h3>
{journal}</article>
<p class="quiet">AsyncAPI {asyncapi}; machine-readable: <code>dcs-worker schema asyncapi</code></p>
</body>
</html>
"""


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
        typer.echo(json.dumps(titles, indent=2) if as_json else _title_table(titles))
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
    return text if name == "asyncapi" else page(json.loads(text))


def _name(path: Path) -> str:
    return path.stem.removeprefix("migration_").replace("_", "-")


def _title(path: Path) -> str:
    return str(json.loads(path.read_text("utf-8")).get("title", ""))


def _title_table(titles: dict[str, str]) -> str:
    width = max(map(len, titles))
    return "\n".join(f"{name:<{width}}  {title}" for name, title in titles.items())


def page(document: Document) -> str:
    """The page of an AsyncAPI 3 document without external references."""
    info, messages = document["info"], document["components"]["messages"]
    return _PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        asyncapi=escape(document["asyncapi"]),
        style=_STYLE.read_text("utf-8"),
        about=_prose(info["description"]),
        operations="\n".join(_operation(document, operation) for operation in document["operations"].values()),
        messages="\n".join(_message(document, name, message) for name, message in messages.items()),
        journal=_table(document, document["components"]["schemas"]["journal"]),
    )


def _operation(document: Document, operation: Document) -> str:
    channel = _resolve(document, operation["channel"])
    action = escape(operation["action"])
    messages = ", ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in channel["messages"])
    return (
        f'<article><h3><span class="action {action}">{action}s</span>{escape(operation["summary"])}</h3>\n'
        f"<p>{messages} · {_address(channel)}</p>\n{_publishing(document, channel, operation)}</article>"
    )


def _address(channel: Document) -> str:
    binding = channel["bindings"]["amqp"]
    if binding["is"] == "queue":
        return f"queue <code>{escape(binding['queue']['name'])}</code>"
    exchange = binding["exchange"]
    address = escape(channel["address"])
    return f"{escape(exchange['type'])} exchange <code>{escape(exchange['name'])}</code>, key <code>{address}</code>"


def _publishing(document: Document, channel: Document, operation: Document) -> str:
    """The exchanges to which senders publish what the worker receives."""
    if operation["action"] != "receive":
        return ""
    channels = document["channels"].values()
    other_channels = [other for other in channels if other["messages"] == channel["messages"] and other != channel]
    return "".join(f"<p>Publish to: {_address(other_channel)}</p>\n" for other_channel in other_channels)


def _message(document: Document, name: str, message: Document) -> str:
    examples = "".join(
        f"<details><summary>Example: {escape(example['name'].replace('_', ' '))}</summary>"
        f"<pre>{escape(json.dumps(example['payload'], indent=2, ensure_ascii=False))}</pre></details>\n"
        for example in message["examples"]
    )
    return (
        f'<article id="{escape(name)}"><h3>{escape(name)}</h3>\n<p>{_inline(message["summary"])}</p>\n'
        f"{_prose(message['description'])}\n"
        f"<h4>Body</h4>\n{_table(document, message['payload'])}\n"
        f"<h4>Headers</h4>\n{_table(document, message['headers'])}\n{examples}</article>"
    )


def _table(document: Document, schema: Document) -> str:
    rows = "\n".join(
        f"<tr><td><code>{escape(field)}</code>{mandatory}</td><td>{escape(type_name)}</td><td>{_inline(about)}</td></tr>"
        for field, mandatory, type_name, about in _fields(document, _resolve(document, schema), "")
    )
    return f"<table><tr><th>name</th><th>type</th><th>meaning</th></tr>\n{rows}\n</table>"


def _fields(document: Document, schema: Document, path: str) -> Iterator[tuple[str, str, str, str]]:
    """Every field at every depth: path, mark if mandatory, types, meaning and constraints."""
    required = schema.get("required", ())
    for name, property_schema in schema["properties"].items():
        field, types = _field_and_types(document, property_schema)
        mandatory = ' <span class="must">mandatory</span>' if name in required else ""
        yield path + name, mandatory, " or ".join(types), _meaning(property_schema, field)
        if "properties" in field:
            yield from _fields(document, field, f"{path}{name}.")
        elif "properties" in (item := _resolve(document, field.get("items", {}))):
            yield from _fields(document, item, f"{path}{name}[].")


def _field_and_types(document: Document, schema: Document) -> tuple[Document, list[str]]:
    """The schema of a field that is not null, and the names of its types."""
    choices = [_resolve(document, choice) for choice in schema.get("anyOf", (schema,))]
    types = [str(choice.get("format") or choice.get("type", "any")) for choice in choices]
    return next((choice for choice in choices if choice.get("type") != "null"), choices[0]), types


def _meaning(property_schema: Document, field: Document) -> str:
    parts = [str(property_schema.get("description") or field.get("description", ""))]
    parts += ["not empty"] if field.get("minLength") else []
    parts += [words.format(f"`{field[rule]}`") for rule, words in _RULES if rule in field]
    if "enum" in field:
        parts.append("one of " + ", ".join(f"`{value}`" for value in field["enum"]))
    return "; ".join(part.removesuffix(".") for part in parts if part)


def _resolve(document: Document, schema: Document) -> Document:
    while "$ref" in schema:
        target: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        schema = target
    return schema


def _prose(text: str) -> str:
    """The Markdown subset of the document: paragraphs, lists, code."""
    return "\n".join(_block(block) for block in text.split("\n\n"))


def _block(block: str) -> str:
    if not block.startswith("- "):
        return f"<p>{_inline(block)}</p>"
    items = "".join(f"<li>{_inline(item)}</li>" for item in block.removeprefix("- ").split("\n- "))
    return f"<ul>{items}</ul>"


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
