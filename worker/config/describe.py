"""Settings as text: for the status page and the doctor, with secrets redacted, and as the documentation's table."""

import json
import os
from collections.abc import Mapping
from typing import TextIO

from pydantic import SecretStr

from worker.config.settings import Settings, variable
from worker.config.urls import SecretUrl
from worker.config.values import number_text


def describe(settings: Settings) -> list[tuple[str, str, str]]:
    """Return name, value and meaning of every setting: a secret is `***`, a setting without value is empty."""
    return [
        (variable(field), _display_text(getattr(settings, field)), entry.description or "")
        for field, entry in Settings.model_fields.items()
    ]


def settings_table() -> str:
    """Return all variables with default and meaning as a Markdown table."""
    rows = [
        f"| `{variable(field)}` | {_default_cell(entry.default)} | {entry.description} |"
        for field, entry in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *rows]) + "\n"


def secret_texts(settings: Settings) -> tuple[str, ...]:
    """All secrets in the settings, which must not be printed."""
    values = (getattr(settings, field) for field in Settings.model_fields)
    return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


def wants_colours(stream: TextIO) -> bool:
    """Whether output to `stream` is coloured: on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _display_text(value: object) -> str:
    match value:
        case SecretStr():
            return "***"
        case float():
            return number_text(value)
        case tuple():
            return ",".join(_display_text(item) for item in value)
        case bool():
            return json.dumps(value)
        case Mapping():
            return json.dumps(dict(value)) if value else ""
        case _:
            return "" if value is None else str(value)


def _default_cell(default: object) -> str:
    # The broker's default password is RabbitMQ's own and known to everyone: it is shown, so that it can be copied.
    text = ",".join(map(_display_default, default)) if isinstance(default, tuple) else _display_text(default)
    return f"`{text}`" if text else "empty"


def _display_default(item: object) -> str:
    return item.get_secret_value() if isinstance(item, SecretUrl) else _display_text(item)
