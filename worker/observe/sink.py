"""Where log lines go. Law: a reader that is gone or stuck costs lines, never the worker."""

import os
import select
from typing import Final, TextIO

READER_WAIT_SECONDS: Final = 1.0
"""Seconds to wait for a stuck reader; none at all once it was stuck, until it reads again."""
WRITE_SIZE_BYTES: Final = select.PIPE_BUF
"""Bytes that a descriptor takes without blocking when it is ready (POSIX, write)."""


class LogSink:
    """Writes lines to `stream`, past its buffer: what a closed pipe refused must not come up again at exit.

    A stream without a descriptor is written to by its own means; None swallows everything.
    """

    def __init__(self, stream: TextIO | None, *, reader_wait_seconds: float = READER_WAIT_SECONDS) -> None:
        self.lost_lines = 0
        """Lines lost since the last one that was written."""
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._reader_wait_seconds = reader_wait_seconds
        self._has_partial_line = False
        if self._descriptor is not None:
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLOUT)

    def __repr__(self) -> str:
        return f"<Sink: {self.lost_lines} lines lost>"

    def write(self, line: str) -> None:
        """Write a line, given without its end. Raises nothing that the stream does."""
        try:
            is_written = self._write(line + "\n")
        except (OSError, ValueError):  # closed by us or by its reader
            is_written = False
        self.lost_lines = 0 if is_written else self.lost_lines + 1

    # A logger calls the method of the level.
    debug = info = warning = error = critical = write

    def _write(self, text: str) -> bool:
        if self._stream is None or self._stream.closed:
            return False
        if self._descriptor is not None:
            return self._write_bytes(self._descriptor, text.encode(errors="backslashreplace"))
        self._stream.write(text)
        self._stream.flush()
        return True

    def _write_bytes(self, descriptor: int, line: bytes) -> bool:
        # The rest of a line that was torn off shall spoil no other one.
        remaining = b"\n" + line if self._has_partial_line else line
        while remaining:
            if not self._poll.poll(0 if self.lost_lines else self._reader_wait_seconds * 1000):
                return False
            remaining = remaining[os.write(descriptor, remaining[:WRITE_SIZE_BYTES]) :]
            self._has_partial_line = bool(remaining)
        return True


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
