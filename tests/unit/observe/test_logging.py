"""Log lines: one JSON object each, whoever speaks, without secrets; plain text for terminals."""

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from schemas.timestamp import from_text
from worker.observe.logging import Level, LogSink, add_header, configure_logging, crash_hook, loop_exception_handler

SECRET = "s3cr3t-token"


class Output:
    """What was logged, as text and as objects."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        """All of it."""
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Each line as the JSON object that it must be, without its time, which must be one."""
        objects = [json.loads(line) for line in self.text.split("\n")[:-1]]
        assert all(from_text(one.pop("timestamp")) for one in objects)
        return objects


@pytest.fixture
def output() -> Output:
    """Where the logs of a test go."""
    return Output()


def raised(error: Exception) -> Exception:
    """The same error with a traceback."""
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - it is wanted
        return caught


def test_a_line_is_one_object_with_time_level_and_event_first(output: Output) -> None:
    """Readers find the three that every line has in the same place; times are RFC 3339 in UTC."""
    configure_logging("info", "json", output.stream).info("worker.ready", port=8000, text="two\nlines\u2028é")

    assert list(json.loads(output.text)) == ["timestamp", "level", "event", "port", "text"]
    assert json.loads(output.text)["timestamp"].endswith("Z")
    assert output.lines == [{"level": "info", "event": "worker.ready", "port": 8000, "text": "two\nlines\u2028é"}]
    assert len(output.text.splitlines()) == 1
    assert output.text.isascii()


@pytest.mark.parametrize(("level", "said"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)])
def test_only_lines_of_the_level_or_above_are_written(level: Level, said: int, output: Output) -> None:
    """The level is the least severity that is logged."""
    logger = configure_logging(level, "json", output.stream)
    for method in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, method)("one")

    assert [one["level"] for one in output.lines] == ["debug", "info", "warning", "error", "critical"][5 - said :]


def test_secrets_are_masked_in_every_line(output: Output) -> None:
    """The worker's own lines, those of libraries and of exceptions, and passwords in URLs."""
    logger = configure_logging("debug", "json", output.stream, secrets=[SECRET])
    logger.info("one", token=SECRET, deep={"list": [f"<{SECRET}>"]}, error=raised(ValueError(SECRET)))
    logging.getLogger("aiormq").warning("refused: %s at %s", SECRET, "amqp://user:other@host/")

    assert SECRET not in output.text
    assert "other" not in output.text
    assert [line["level"] for line in output.lines] == ["info", "warning"]
    assert output.lines[1]["message"] == "refused: *** at amqp://user:***@host/"


def test_a_secret_that_looks_like_a_level_breaks_no_line(output: Output) -> None:
    """Masking changes values, never the form of a line."""
    configure_logging("info", "json", output.stream, secrets=["info", "true", '","', "event"]).info(
        "one", ok=True, why="true"
    )

    assert output.lines == [{"level": "info", "event": "one", "ok": True, "why": "***"}]


def test_an_exception_is_one_field(output: Output) -> None:
    """Type and message; its traceback only at debug level, and still in one line."""
    configure_logging("info", "json", output.stream).error("request.defect", error=raised(ValueError("wrong\nindeed")))
    configure_logging("debug", "json", output.stream).error("request.defect", error=raised(ValueError()))

    short, long = output.lines
    assert short == {"level": "error", "event": "request.defect", "error": "ValueError: wrong\nindeed"}
    assert long["error"] == "ValueError"
    assert long["traceback"].startswith("Traceback (most recent call last):\n")
    assert "test_logging.py" in long["traceback"]


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, float("inf"), b"\xff", pytest.param(10**5000, id="huge"), {("a", 1): 2}, ValueError("x")],
)
def test_any_value_can_be_logged(value: object, output: Output) -> None:
    """What JSON cannot say is told in words; it never costs the line."""
    configure_logging("info", "json", output.stream).info("one", value=value)

    assert output.lines[0]["event"] == "one"
    assert "value" in output.lines[0]


def test_libraries_speak_in_the_same_lines(output: Output) -> None:
    """From `warning` on, in one line each, without their tracebacks, even if they cannot format their words."""
    logging.getLogger().handlers.clear()  # those of pytest let a bad format string fail the test
    configure_logging("info", "json", output.stream)
    library = logging.getLogger("aiormq.connection")
    library.info("not said")
    library.warning("lost\n  the %s", "connection")
    library.error("failed", exc_info=raised(ConnectionError("reset")))
    library.log(35, "between")
    library.log(99, "beyond")
    library.warning("%d %s", "broken")

    fields = {"event": "library.logged", "logger": "aiormq.connection"}
    assert output.lines == [
        {"level": "warning", **fields, "message": "lost the connection"},
        {"level": "error", **fields, "message": "failed", "error": "ConnectionError: reset"},
        {"level": "warning", **fields, "message": "between"},
        {"level": "critical", **fields, "message": "beyond"},
        {"level": "warning", **fields, "message": "%d %s"},
    ]


def test_libraries_are_no_louder_than_the_worker(output: Output) -> None:
    """At level `error` their warnings are left out; set up twice, they still speak once."""
    configure_logging("error", "json", output.stream)
    configure_logging("error", "json", output.stream)
    logging.getLogger("asyncio").warning("not said")
    logging.getLogger("asyncio").error("said")

    assert [line["message"] for line in output.lines] == ["said"]


def test_lost_lines_are_counted_in_the_next_one() -> None:
    """Whoever reads the log sees that something is missing."""
    sink = LogSink(None)
    sink.write("lost")

    assert list(add_header(sink)(None, "info", {"event": "one", "x": 1}).items())[1:] == [
        ("level", "info"),
        ("event", "one"),
        ("lost", 1),
        ("x", 1),
    ]


async def test_what_the_event_loop_finds_becomes_a_line(output: Output) -> None:
    """A callback that raised, with nobody to tell."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_exception_handler(configure_logging("info", "json", output.stream)))
    called = asyncio.Event()

    def fail() -> None:
        called.set()
        raise ValueError("nobody listens")

    loop.call_soon(fail)
    await called.wait()
    loop.call_exception_handler({})

    first, second = output.lines
    assert (first["level"], first["event"], first["error"]) == ("error", "loop.failed", "ValueError: nobody listens")
    assert "fail" in first["message"]
    assert second == {"level": "error", "event": "loop.failed", "message": ""}


def test_the_exception_that_ends_the_process_becomes_a_line(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """A crash is told like everything else; Ctrl-C is none."""
    hook = crash_hook(configure_logging("info", "json", output.stream))
    hook(ValueError, ValueError("the end"), None)
    hook(KeyboardInterrupt, KeyboardInterrupt(), None)

    assert output.lines == [{"level": "critical", "event": "worker.crashed", "error": "ValueError: the end"}]
    assert "KeyboardInterrupt" in capsys.readouterr().err


def console(output: Output, colours: bool, level: Level = "info") -> Callable[..., Any]:
    """The `error` method of a logger for terminals."""
    error: Callable[..., Any] = configure_logging(
        level, "console", output.stream, secrets=[SECRET], colours=colours
    ).error
    return error


def test_a_terminal_gets_plain_lines(output: Output) -> None:
    """Fields in order after the event, secrets masked; no colours unless they are asked for."""
    console(output, colours=False)("request.faulted", status=503, token=SECRET, text="a b")

    line = output.text.rstrip("\n")
    assert line.split(" ", 1)[1] == "[error    ] request.faulted                status=503 token=*** text='a b'"
    assert line.isprintable()


def test_a_terminal_gets_colours_if_wanted(output: Output) -> None:
    """The caller knows whether there is a terminal that wants them."""
    console(output, colours=True)("request.faulted")

    assert "\x1b[" in output.text


def test_no_text_controls_the_terminal(output: Output) -> None:
    """Escape sequences in what others say are shown, not obeyed; so are line ends."""
    evil = "\x1b[2J\rgone\x9b1m"
    console(output, colours=False, level="debug")(evil, text=evil, deep=[evil], error=raised(ValueError(evil)))

    assert all(line.isprintable() for line in output.text.split("\n"))
    assert "\\x1b[2J\\rgone" in output.text
    assert "Traceback" in output.text


def test_a_worker_whose_reader_goes_ends_well() -> None:
    """`dcs-worker run | head -1` neither fails nor writes a traceback when the pipe breaks."""
    script = """
import sys
from worker.observe.logging import configure_logging
logger = configure_logging("info", "json", sys.stdout)
logger.info("one")
sys.stdin.read()
logger.info("two")
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert "one" in process.stdout.readline()
        process.stdout.close()
        process.stdin.close()
        errors = process.stderr.read()
        status = process.wait(60)

    assert (status, errors) == (0, "")
