"""Shared by the commands: exit statuses, help texts, configuration, signals, durations, tables and JSON."""

import asyncio
import inspect
import json
import logging
import os
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TextIO
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from worker.config import Configuration

EXIT_OK: Final = os.EX_OK
EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = os.EX_UNAVAILABLE
EXIT_CONFIGURATION: Final = os.EX_CONFIG
EXIT_SIGNAL_BASE: Final = 128
"""A command ended by a signal exits with this plus the number of the signal, as shells do."""

TYPER_SETTINGS: Final[dict[str, Any]] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,  # plain help starts faster, and reads the same in a pipe
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
}
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_MANAGEMENT_HELP: Final = (
    "Base URL of RabbitMQ's management API, to check bindings, policies and old queues as the same user."
)
Management = Annotated[str | None, typer.Option(help=_MANAGEMENT_HELP)]
Rate = Annotated[float | None, typer.Option(min=0.01, help="Maximum requests per second.", show_default=False)]

_UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PATTERN: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")


class OutputError(Exception):
    """A file, or standard output, cannot be written; the text is for an operator."""


def add_command(app: typer.Typer, command: Callable[..., None], name: str | None = None) -> None:
    """Register `command` as `name`, by default the name of the function.

    Its help text is its docstring, whose last paragraph is its example.
    """
    help_text, _, example = inspect.cleandoc(command.__doc__ or "").rpartition("Example: ")
    # \b stops click from wrapping the example, so that it can be copied.
    app.command(name, help=help_text.rstrip(), epilog=f"\b\nExample: {example}")(command)


def load_configuration(*, credentials: bool = False, proxies: bool = False, amqp_url: str = "") -> "Configuration":
    """The configuration of this process; if invalid, the command ends with status 78 and one line per problem.

    `credentials`: whether they are required; most commands use the broker only. `proxies`: whether those must be valid
    all the same. `amqp_url` replaces WORKER_AMQP_URL.
    """
    from worker.config import ConfigurationError, load_from_process

    # A command reports a lost connection itself, in one sentence, after it has tried every node.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    try:
        loaded = load_from_process(credentials=credentials, proxies=proxies, amqp_url=amqp_url)
    except ConfigurationError as error:
        raise typer.Exit(fail("\n".join(error.lines), EXIT_CONFIGURATION)) from None
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return loaded


def run_interruptible(work: Coroutine[Any, Any, int]) -> int:
    """Run `work` to its exit status. A signal cancels it, so that it cleans up; a second one ends the process."""
    return asyncio.run(_until_done_or_signal(work))


def run_and_exit(work: Awaitable[int | None]) -> NoReturn:
    """Run the whole work of a command that uses the broker, and exit with its status."""
    raise typer.Exit(run_interruptible(exit_status_of(work)))


async def exit_status_of(work: Awaitable[int | None]) -> int:
    """The exit status of `work` (None: done); 1, 69 or 78 and a line per problem if it fails."""
    from worker.config import ConfigurationError
    from worker.policy.outcome import ClaimsAwayError
    from worker.rabbit.tools.broker_access import BrokerError
    from worker.rabbit.tools.parked_queue import ParkedQueueInUseError

    try:
        return await work or EXIT_OK
    except (OutputError, ParkedQueueInUseError) as error:
        return fail(str(error))
    except BrokerError as error:
        return fail(str(error), EXIT_UNAVAILABLE)
    except ClaimsAwayError as error:
        text = (
            "The records of parked requests in Redis (WORKER_CLAIMS_URL) cannot be deleted, so the others stay parked"
        )
        return fail(f"{text}: {error}. Repeat the command when Redis answers.", EXIT_UNAVAILABLE)
    except ConfigurationError as error:
        return fail("\n".join(error.lines), EXIT_CONFIGURATION)


def run_command_line(app: Callable[[], object]) -> NoReturn:
    """Run the command line. What a terminal or a file does not take is no traceback: one sentence, exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not have every character
    status: str | int | None = EXIT_OK
    try:
        try:
            app()
        except SystemExit as end:
            status = end.code
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        try:
            # A reader such as `head` closes the pipe when it has had enough. A command that failed has said why.
            if not status and not isinstance(error, BrokenPipeError):
                fail(f"{error.filename or 'The output cannot be written'}: {error.strerror or error}.")
        except OSError:
            _discard(sys.stderr)
        status = status or EXIT_FAILED
    sys.exit(status)


def _discard(stream: TextIO) -> None:
    """Let the interpreter, which flushes the stream at its end, succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def on_first_signal(action: Callable[[], object]) -> list[int]:
    """Do `action` at the first SIGINT or SIGTERM; a second one ends the process. The list gets the first one."""
    caught: list[int] = []

    def on_signal(number: int) -> None:
        if caught:
            os._exit(EXIT_SIGNAL_BASE + number)
        caught.append(number)
        action()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return caught


async def _until_done_or_signal(work: Coroutine[Any, Any, int]) -> int:
    task = asyncio.get_running_loop().create_task(work)
    caught = on_first_signal(task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        if caught:
            return EXIT_SIGNAL_BASE + caught[0]
        raise


def parse_duration(text: str) -> float:
    """Seconds of `90`, `90s`, `15m`, `2h` or `3d`. Raises ValueError."""
    match = _DURATION_PATTERN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 90s, 15m, 2h or 3d")
    return float(match[1]) * _UNIT_SECONDS[match[2] or "s"]


def short_duration(length: float) -> str:
    """`47 s`, `3 min`, `5 h` or `12 d`, rounded down."""
    number, unit, *_ = exact_duration(max(0, int(length))).split()
    return f"{number} {unit}"


def exact_duration(length: float) -> str:
    """`0.012 s`, `47.5 s`, `3 min 5 s`, `5 h 2 min` or `12 d`."""
    for unit, unit_seconds, smaller, smaller_seconds in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if length >= unit_seconds:
            rest = int(length % unit_seconds // smaller_seconds)
            return f"{int(length // unit_seconds)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{round(length, 3) + 0.0:g} s"


def printable(text: object) -> str:
    """`text` with every control character replaced, so that it cannot control the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in str(text))


def output_width() -> int:
    """Columns of the terminal, or COLUMNS; 80 where neither is known, as behind `kubectl exec` without a terminal."""
    return max(60, shutil.get_terminal_size().columns)


def wrap(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters, broken between words; a longer word has a line to itself."""
    return textwrap.wrap(text, max(20, width), break_long_words=False, break_on_hyphens=False)


def fail(sentence: str, status: int = EXIT_FAILED) -> int:
    """Print why the command failed on standard error; the exit status."""
    typer.echo(sentence, err=True)
    return status


def print_json(content: object) -> None:
    """Print `content` as indented JSON on standard output, without building the whole text."""
    json.dump(content, sys.stdout, indent=2)
    typer.echo()


def align(lines: Iterable[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Lines of cells as aligned columns; those with a number in `right` (0: the first) are aligned to the right."""
    cells = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def format_table(titles: Sequence[str], lines: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> str:
    """A plain-text table; the columns named in `right` are aligned to the right."""
    return align((titles, *lines), right=[titles.index(title) for title in right])


def validated_management_url(management: str | None, broker_scheme: str) -> str | None:
    """The URL without a slash at the end. It gets the broker's password, so it must be encrypted if the broker is."""
    if management is None:
        return None
    schemes = ("https",) if broker_scheme == "amqps" else ("https", "http")
    try:
        parts = urlsplit(management)
        is_usable = parts.scheme in schemes and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        is_usable = False
    if not is_usable:
        starts = " or ".join(f"{scheme}://" for scheme in schemes)
        message = f"must be a URL that starts with {starts}, without user and password"
        raise typer.BadParameter(message, param_hint="--management")
    return management.rstrip("/")
