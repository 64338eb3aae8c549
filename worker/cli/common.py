"""What commands share: exit statuses, help, configuration, signals, spans of time and tables."""

import asyncio
import inspect
import logging
import os
import re
import signal
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from worker.config import Loaded

DONE: Final = os.EX_OK
FAILED: Final = 1
UNAVAILABLE: Final = os.EX_UNAVAILABLE
CONFIGURATION: Final = os.EX_CONFIG
INTERRUPTED: Final = 128
"""Plus the number of the signal."""

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")


def add(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Add `command` to `app` as `name`, else by the name of its function.

    Its help is its docstring, the last paragraph of which is its example.
    """
    about, _, example = inspect.cleandoc(command.__doc__ or "").rpartition("Example: ")
    # The \b keeps the lines as they are, so that they can be copied.
    app.command(name, help=about.rstrip(), epilog=f"\b\nExample: {example}")(command)


def configured(*, credentials: bool = False) -> "Loaded":
    """The configuration of this process; ends the command with its problems, one per line, if it has any.

    `credentials` says whether the command calls DCS; most speak with the broker only.
    """
    from worker.config import ConfigurationError, load_from_process

    # The AMQP library logs what a command says anyway, in one sentence and after it has tried every node.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        loaded = load_from_process(credentials=credentials)
    except ConfigurationError as error:
        for problem in error.lines:
            typer.echo(problem, err=True)
        raise typer.Exit(CONFIGURATION) from None
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return loaded


def interruptible(work: Coroutine[Any, Any, int]) -> int:
    """Run `work`, which returns an exit status; a signal cancels it, so that it can clear up, a second one ends all."""
    return asyncio.run(_guarded(work))


async def _guarded(work: Coroutine[Any, Any, int]) -> int:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    caught: list[int] = []

    def on_signal(number: int) -> None:
        if caught:
            os._exit(INTERRUPTED + number)
        caught.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await task
    except asyncio.CancelledError:
        if caught:
            return INTERRUPTED + caught[0]
        raise


def seconds(text: str) -> float:
    """Seconds of `90`, `90s`, `15m`, `2h` or `3d`. Raises ValueError."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no span of time such as 90s, 15m, 2h or 3d")
    return float(match[1]) * _UNITS[match[2] or "s"]


def span(length: float) -> str:
    """`47 s`, `3 min`, `5 h` or `12 d`, rounded down."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if length >= size:
            return f"{int(length // size)} {unit}"
    return f"{int(max(0.0, length))} s"


def exact(length: float) -> str:
    """`0.012 s`, `47.5 s`, `3 min 5 s`, `5 h 2 min` or `12 d`."""
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if length >= size:
            rest = int(length % size // part)
            return f"{int(length // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{round(length, 3) + 0.0:g} s"


def safe(text: object) -> str:
    """`text` without anything that a terminal would obey."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in str(text))


def rows(titles: Sequence[str], lines: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> str:
    """A table under `titles`; the columns in `right` are aligned to the right."""
    cells = [titles, *([safe(cell) for cell in line] for line in lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(titles))]
    return "\n".join("  ".join(_cells(line, titles, widths, right)).rstrip() for line in cells)


def _cells(line: Sequence[str], titles: Sequence[str], widths: Sequence[int], right: Sequence[str]) -> Iterable[str]:
    for cell, title, width in zip(line, titles, widths, strict=True):
        yield cell.rjust(width) if title in right else cell.ljust(width)
