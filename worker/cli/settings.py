"""The command `dcs-worker settings`: every setting with its value, its default and where it comes from.

A secret is `***`, and a URL is printed without its password.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import typer

from worker.cli.common import Json, load_configuration, output_width, print_json, printable, wrap

if TYPE_CHECKING:
    from worker.config import Configuration

DEFAULT: Final = "default"
DERIVED: Final = "derived from WORKER_DCS_REGION"


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting as text; a setting without a value is empty."""

    variable: str
    value: str
    default: str
    source: str
    """`default`, `environment`, `.env file` or `secret file PATH`."""


def settings(*, as_json: Json = False) -> None:
    """Print the effective settings: value, default and source. Secrets are redacted.

    Settings that are not at their default are marked with *. Sources, in this order: environment, secret file (in
    WORKER_SECRETS_DIR), .env file, default. docs/settings.md has the meaning of each setting.

    Exit status: 0 printed, 78 the configuration is invalid. Missing credentials are reported by `doctor` only.

    Example: dcs-worker settings
    """
    rows = list(effective_settings(load_configuration(proxies=True)))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        typer.echo("\n".join(_lines(rows, output_width())))


def effective_settings(loaded: "Configuration") -> Iterator[EffectiveSetting]:
    """All settings in the order of the documentation."""
    from worker.config import Settings, describe

    defaults = describe(Settings())
    for (variable, value, _), (_, default, _) in zip(describe(loaded.settings), defaults, strict=True):
        source = loaded.sources.get(variable, DEFAULT if value == default else DERIVED)
        yield EffectiveSetting(variable, value, default, source)


def _lines(rows: Iterable[EffectiveSetting], width: int) -> Iterator[str]:
    names = [row.variable for row in rows]
    column = 2 + max(map(len, names)) + 2
    for row in rows:
        mark, indent = " " if row.source == DEFAULT else "*", " " * column
        first, *rest = wrap(printable(row.value), width - column) or ["(empty)"]
        yield f"{mark} {row.variable:<{column - 4}}  {first}"
        if row.source != DEFAULT:
            default = "the default" if row.value == row.default else f"default: {row.default or 'empty'}"
            rest += wrap(printable(f"{row.source}; {default}"), width - column)
        yield from (indent + line for line in rest)
