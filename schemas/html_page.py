"""HTML page of an AsyncAPI document: all messages, fields and examples. No external parts, readable on a phone."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

Document = Mapping[str, Any]

_PAGE: Final = Path(__file__).with_suffix(".html")
"""The frame of the page, a `string.Template`."""
_CODE: Final = re.compile(r"`([^`]+)`")
_RULES: Final = (
    ("const", "always {}"),
    ("pattern", "must match {}"),
    ("maxLength", "at most {} characters"),
    ("minimum", "at least {}"),
)


def page(document: Document) -> str:
    """The page of an AsyncAPI 3 document without external references."""
    document = _inline_references(document, document)
    info, components = document["info"], document["components"]
    channels = list(document["channels"].values())
    return Template(_PAGE.read_text("utf-8")).substitute(
        title=escape(info["title"]),
        version=escape(info["version"]),
        asyncapi=escape(document["asyncapi"]),
        about=_prose(info["description"]),
        operations="\n".join(_operation(operation, channels) for operation in document["operations"].values()),
        messages="\n".join(_message(name, message) for name, message in components["messages"].items()),
        journal=_table(components["schemas"]["journal"]),
    )


def _inline_references(node: Any, document: Document) -> Any:
    """`node` with what its references name in their place; members beside a reference win over what it names."""
    if isinstance(node, list):
        return [_inline_references(member, document) for member in node]
    if not isinstance(node, dict):
        return node
    while "$ref" in node:
        node = dict(node)
        target: Any = document
        for step in node.pop("$ref").removeprefix("#/").split("/"):
            target = target[step]
        node = {**target, **node}
    return {name: _inline_references(member, document) for name, member in node.items()}


def _operation(operation: Document, channels: Sequence[Document]) -> str:
    channel = operation["channel"]
    action = escape(operation["action"])
    messages = ", ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in channel["messages"])
    # What senders publish to an exchange waits in a queue.
    others = [other for other in channels if other["messages"] == channel["messages"] and other != channel]
    waiting = "".join(f"<p>Waits in: {_address(other)}</p>\n" for other in others if action == "receive")
    return (
        f'<article><h3><span class="action {action}">{action}s</span>{escape(operation["summary"])}</h3>\n'
        f"<p>{messages} · {_address(channel)}</p>\n{waiting}</article>"
    )


def _address(channel: Document) -> str:
    binding = channel["bindings"]["amqp"]
    if binding["is"] == "queue":
        return f"queue <code>{escape(binding['queue']['name'])}</code>"
    exchange = binding["exchange"]
    address = escape(channel["address"])
    return f"{escape(exchange['type'])} exchange <code>{escape(exchange['name'])}</code>, key <code>{address}</code>"


def _message(name: str, message: Document) -> str:
    examples = "".join(
        f"<details><summary>Example: {escape(example['name'].replace('_', ' '))}</summary>"
        f"<pre>{escape(json.dumps(example['payload'], indent=2, ensure_ascii=False))}</pre></details>\n"
        for example in message["examples"]
    )
    return (
        f'<article id="{escape(name)}"><h3>{escape(name)}</h3>\n<p>{_inline(message["summary"])}</p>\n'
        f"{_prose(message['description'])}\n"
        f"<h4>Body</h4>\n{_table(message['payload'])}\n"
        f"<h4>Headers</h4>\n{_table(message['headers'])}\n{examples}</article>"
    )


def _table(schema: Document) -> str:
    rows = "\n".join(
        f"<tr><td><code>{escape(field)}</code>{mandatory}</td><td>{escape(type_name)}</td><td>{_inline(about)}</td></tr>"
        for field, mandatory, type_name, about in _fields(schema, "")
    )
    return f"<table><tr><th>name</th><th>type</th><th>meaning</th></tr>\n{rows}\n</table>"


def _fields(schema: Document, path: str) -> Iterator[tuple[str, str, str, str]]:
    """Every field at every depth: path, mark if mandatory, types, meaning and constraints."""
    required = schema.get("required", ())
    for field, property_schema in schema["properties"].items():
        object_schema = property_schema.get("anyOf", (property_schema,))[0]
        types = [object_schema["type"], "null"] if "anyOf" in property_schema else property_schema.get("type", "any")
        shown = [str(property_schema.get("format", name)) if name == "string" else name for name in _listed(types)]
        mandatory = ' <span class="must">mandatory</span>' if field in required else ""
        yield path + field, mandatory, " or ".join(shown), _meaning(property_schema)
        if "properties" in object_schema:
            yield from _fields(object_schema, f"{path}{field}.")
        elif "properties" in (item := property_schema.get("items", {})):
            yield from _fields(item, f"{path}{field}[].")


def _listed(types: str | Sequence[str]) -> Sequence[str]:
    return [types] if isinstance(types, str) else types


def _meaning(field: Document) -> str:
    parts = [str(field.get("description", ""))]
    parts += ["not empty"] if field.get("minLength") else []
    parts += [words.format(f"`{_visible(str(field[rule]))}`") for rule, words in _RULES if rule in field]
    for rule, words in (("enum", "one of "), ("examples", "for example ")):
        parts += [words + ", ".join(f"`{value}`" for value in field[rule])] if rule in field else []
    return "; ".join(part.removesuffix(".") for part in parts if part)


def _visible(text: str) -> str:
    """The text with escapes in place of characters beyond ASCII, among which are blanks of many kinds."""
    return "".join(character if character.isascii() else f"\\u{ord(character):04x}" for character in text)


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
