"""Where lines go: a reader that is gone or stuck costs lines, never the worker."""

import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from worker.observe.logging import WRITE_SIZE_BYTES, LogSink


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """The reading end, and a stream over the writing end, as a process has for its output."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    yield reading, stream
    with suppress(OSError):
        os.close(reading)
    with suppress(OSError):
        stream.close()


def drained(reading: int) -> bytes:
    """All that is in the pipe now."""
    os.set_blocking(reading, False)
    pieces = []
    try:
        while piece := os.read(reading, 1 << 16):
            pieces.append(piece)
    except BlockingIOError:
        pass
    os.set_blocking(reading, True)
    return b"".join(pieces)


def stuffed(sink: LogSink, line: str) -> int:
    """Write `line` until nobody takes any more; how many were taken."""
    taken = 0
    while not sink.lost_lines:
        sink.write(line)
        taken += 1
    return taken - 1


def test_line_reaches_pipe_immediately(pipe: tuple[int, TextIO]) -> None:
    """No line waits in a buffer."""
    reading, stream = pipe
    LogSink(stream).write("one")

    assert drained(reading) == b"one\n"


def test_lines_reach_file(tmp_path: Path) -> None:
    """A file always accepts lines; text of all kinds arrives, a lone surrogate escaped."""
    with (tmp_path / "log").open("w") as stream:
        sink = LogSink(stream)
        sink.write("x" * 3 * WRITE_SIZE_BYTES)
        sink.write("é\ud800")

    assert (tmp_path / "log").read_text() == "x" * 3 * WRITE_SIZE_BYTES + "\né\\ud800\n"


def test_stream_without_descriptor_is_written() -> None:
    """A stream in memory is written by its own methods."""
    stream = io.StringIO()
    LogSink(stream).info("one")

    assert stream.getvalue() == "one\n"


def test_broken_pipe_loses_lines_without_error(pipe: tuple[int, TextIO]) -> None:
    """A broken pipe loses lines, raises nothing, and leaves nothing behind that would fail at exit."""
    reading, stream = pipe
    os.close(reading)
    sink = LogSink(stream)
    sink.write("one")
    sink.write("two")

    assert repr(sink) == "<LogSink: 2 lines lost>"
    stream.flush()  # nothing is left in the buffer that could raise


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_missing_or_closed_stream_drops_lines(stream: TextIO | None) -> None:
    """A process may be started without an output, or lose it."""
    if stream is not None:
        stream.close()
    sink = LogSink(stream)
    sink.write("one")

    assert sink.lost_lines == 1


def test_stuck_reader_costs_one_wait(pipe: tuple[int, TextIO]) -> None:
    """The first line that finds no room waits for its reader, the next ones do not; then lines flow again."""
    reading, stream = pipe
    sink = LogSink(stream, reader_wait_seconds=0.2)
    began = time.monotonic()
    taken = stuffed(sink, "x" * 99)
    for _ in range(1000):
        sink.write("lost")
    took = time.monotonic() - began

    assert sink.lost_lines == 1001
    assert 0.2 <= took < 2.0
    assert drained(reading) == (b"x" * 99 + b"\n") * taken
    sink.write("back")
    assert sink.lost_lines == 0
    assert drained(reading) == b"back\n"


def test_slow_reader_gets_every_line(pipe: tuple[int, TextIO]) -> None:
    """A reader that only pauses gets every line."""
    reading, stream = pipe
    sink = LogSink(stream, reader_wait_seconds=10.0)
    received: list[bytes] = []

    def read() -> None:
        while piece := os.read(reading, 1 << 12):
            received.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3000):
        sink.write("x" * 99)
    stream.close()
    reader.join(10.0)

    assert sink.lost_lines == 0
    assert b"".join(received) == (b"x" * 99 + b"\n") * 3000


def test_partial_line_is_ended_before_next(pipe: tuple[int, TextIO]) -> None:
    """A partly written line is ended before the next line begins."""
    reading, stream = pipe
    sink = LogSink(stream, reader_wait_seconds=0.01)
    stuffed(sink, "x" * (WRITE_SIZE_BYTES * 3 - 1))
    drained(reading)
    sink.write("whole")

    assert drained(reading).splitlines()[-1] == b"whole"


def test_lines_of_two_threads_wait_for_the_reader_together(pipe: tuple[int, TextIO]) -> None:
    """A library's thread, of the trace exporter for example, logs while the worker does: each line arrives whole."""
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    with suppress(BlockingIOError):
        while True:
            os.write(stream.fileno(), b"." * 4096)
    os.set_blocking(stream.fileno(), True)
    sink = LogSink(stream, reader_wait_seconds=10)
    threads = [threading.Thread(target=sink.write, args=(f"line {number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    text = drained(reading)
    for thread in threads:
        thread.join(10)
    text += drained(reading)
    assert sorted(text.lstrip(b".").splitlines()) == [b"line %d" % number for number in range(5)]
