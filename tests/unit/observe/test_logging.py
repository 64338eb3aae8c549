"""Log lines: one JSON object each, whoever speaks, without secrets; plain text for terminals."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from schemas.timestamp import from_text
from worker.observe.logging import (
    Level,
    LogSink,
    configure_logging,
    crash_hook,
    loop_exception_handler,
    prepare_fields,
    thread_hook,
)
from worker.policy.redaction import Redactor

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


def test_line_begins_with_time_level_event(output: Output) -> None:
    """A line is one JSON object; its first members are time (RFC 3339, UTC), level and event."""
    configure_logging("info", "json", output.stream).info("worker.ready", port=8000, text="two\nlines\u2028é")

    assert list(json.loads(output.text)) == ["timestamp", "level", "event", "port", "text"]
    assert json.loads(output.text)["timestamp"].endswith("Z")
    assert output.lines == [{"level": "info", "event": "worker.ready", "port": 8000, "text": "two\nlines\u2028é"}]
    assert len(output.text.splitlines()) == 1
    assert output.text.isascii()


@pytest.mark.parametrize(("level", "said"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2), ("critical", 1)])
def test_level_filters_lines(level: Level, said: int, output: Output) -> None:
    """Only lines of at least the configured level are written."""
    logger = configure_logging(level, "json", output.stream)
    for method in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, method)("one")

    assert [one["level"] for one in output.lines] == ["debug", "info", "warning", "error", "critical"][5 - said :]


def test_secrets_are_redacted_in_every_line(output: Output) -> None:
    """In the worker's own lines, those of libraries and of exceptions; passwords in URLs too."""
    logger = configure_logging("debug", "json", output.stream, redactor=Redactor([SECRET]))
    logger.info("one", token=SECRET, deep={"list": [f"<{SECRET}>"]}, error=raised(ValueError(SECRET)))
    logging.getLogger("aiormq").warning("refused: %s at %s", SECRET, "amqp://user:other@host/")

    assert SECRET not in output.text
    assert "other" not in output.text
    assert [line["level"] for line in output.lines] == ["info", "debug"]
    assert output.lines[1]["message"] == "refused: *** at amqp://user:***@host/"


def test_secret_equal_to_syntax_keeps_json_valid(output: Output) -> None:
    """Redaction changes values, never the JSON around them."""
    configure_logging("info", "json", output.stream, redactor=Redactor(["info", "true", '","', "event"])).info(
        "one", ok=True, why="true"
    )

    assert output.lines == [{"level": "info", "event": "one", "ok": True, "why": "***"}]


def test_exception_is_one_field(output: Output) -> None:
    """Type and message; the traceback only at level debug, and within the same line."""
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
    """A value that JSON does not have is rendered as text; it never costs the line."""
    configure_logging("info", "json", output.stream).info("one", value=value)

    assert output.lines[0]["event"] == "one"
    assert "value" in output.lines[0]


def test_library_records_become_lines(output: Output) -> None:
    """From `warning` on, one line each, without traceback, even if the format string is broken."""
    logging.getLogger().handlers.clear()  # those of pytest let a bad format string fail the test
    configure_logging("info", "json", output.stream)
    library = logging.getLogger("opentelemetry.sdk")
    library.info("not said")
    library.warning("lost\n  the %s", "connection")
    library.error("failed", exc_info=raised(ConnectionError("reset")))
    library.log(35, "between")
    library.log(99, "beyond")
    library.warning("%d %s", "broken")

    fields = {"event": "library.logged", "logger": "opentelemetry.sdk"}
    assert output.lines == [
        {"level": "warning", **fields, "message": "lost the connection"},
        {"level": "error", **fields, "message": "failed", "error": "ConnectionError: reset"},
        {"level": "warning", **fields, "message": "between"},
        {"level": "critical", **fields, "message": "beyond"},
        {"level": "warning", **fields, "message": "%d %s"},
    ]


@pytest.mark.parametrize(("level", "said"), [("debug", ["debug"]), ("info", [])])
def test_lines_of_the_amqp_library_are_for_debug(level: Level, said: list[str], output: Output) -> None:
    """The worker itself reports a lost connection, in words."""
    configure_logging(level, "json", output.stream)
    logging.getLogger("aiormq.connection").error("Unexpected connection close from remote")

    assert [line["level"] for line in output.lines] == said


def test_level_applies_to_libraries(output: Output) -> None:
    """At level `error` a library's warning is dropped; configured twice, a record is logged once."""
    configure_logging("error", "json", output.stream)
    configure_logging("error", "json", output.stream)
    logging.getLogger("asyncio").warning("not said")
    logging.getLogger("asyncio").error("said")

    assert [line["message"] for line in output.lines] == ["said"]


def test_next_line_counts_lost_lines() -> None:
    """The first line after lost ones says how many were lost."""
    sink = LogSink(None)
    sink.write("lost")

    assert list(prepare_fields(sink, with_traceback=False)(None, "info", {"event": "one", "x": 1}).items())[1:] == [
        ("level", "info"),
        ("event", "one"),
        ("lost", 1),
        ("x", 1),
    ]


async def test_event_loop_error_becomes_line(output: Output) -> None:
    """A callback that raises without a task is logged."""
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


def test_crash_becomes_line(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception that ends the process is logged; Ctrl-C is not."""
    hook = crash_hook(configure_logging("info", "json", output.stream))
    hook(ValueError, ValueError("the end"), None)
    hook(KeyboardInterrupt, KeyboardInterrupt(), None)

    (line,) = output.lines
    assert (line["level"], line["event"], line["error"]) == ("critical", "worker.crashed", "ValueError: the end")
    assert "KeyboardInterrupt" in capsys.readouterr().err


def test_failed_thread_becomes_line(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that ends a thread of a library is logged, and not printed."""
    monkeypatch.setattr(threading, "excepthook", thread_hook(configure_logging("info", "json", output.stream)))
    thread = threading.Thread(target=lambda: 1 / 0, name="exporter")
    thread.start()
    thread.join()

    (line,) = output.lines
    assert (line["event"], line["message"]) == ("library.logged", "thread exporter ended")
    assert line["error"] == "ZeroDivisionError: division by zero"


def console(output: Output, colours: bool, level: Level = "info") -> Callable[..., Any]:
    """The `error` method of a logger for terminals."""
    error: Callable[..., Any] = configure_logging(
        level, "console", output.stream, redactor=Redactor([SECRET]), colours=colours
    ).error
    return error


def test_console_lines_are_plain(output: Output) -> None:
    """Fields in order after the event, secrets redacted; no colours unless asked for."""
    console(output, colours=False)("dcs.call_failed", status=503, token=SECRET, text="a b")

    line = output.text.rstrip("\n")
    assert line.split(" ", 1)[1] == "[error    ] dcs.call_failed                status=503 token=*** text='a b'"
    assert line.isprintable()


def test_console_lines_have_colours_on_request(output: Output) -> None:
    """The caller decides whether lines are coloured."""
    console(output, colours=True)("dcs.call_failed")

    assert "\x1b[" in output.text


def test_escape_sequences_are_shown_not_executed(output: Output) -> None:
    """Escape sequences in logged texts are shown as text; so are line ends."""
    evil = "\x1b[2J\rgone\x9b1m"
    console(output, colours=False, level="debug")(evil, text=evil, deep=[evil], error=raised(ValueError(evil)))

    assert all(line.isprintable() for line in output.text.split("\n"))
    assert "\\x1b[2J\\rgone" in output.text
    assert "Traceback" in output.text


def test_closed_pipe_does_not_crash_worker() -> None:
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
