"""How a command is added to the command line: its help is its docstring, the last paragraph of which is its example."""

import inspect
from collections.abc import Callable

import typer


def add(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Add `command` to `app` as `name`, else by the name of its function."""
    about, _, example = inspect.cleandoc(command.__doc__ or "").rpartition("Example: ")
    # The \b keeps the lines as they are, so that they can be copied.
    app.command(name, help=about.rstrip(), epilog=f"\b\nExample: {example}")(command)
