"""Where log lines go. Law: a reader that is gone or stuck costs lines, never the worker."""

import os
import select
from typing import Final, TextIO

PATIENCE: Final = 1.0
"""Seconds to wait for a stuck reader; none at all once it was stuck, until it reads again."""
PIECE: Final = select.PIPE_BUF
"""Bytes that a descriptor takes without blocking when it is ready (POSIX, write)."""


class Sink:
    """Writes lines to `stream`, past its buffer: what a closed pipe refused must not come up again at exit.

    A stream without a descriptor is written to by its own means; None swallows everything.
    """

    def __init__(self, stream: TextIO | None, *, patience: float = PATIENCE) -> None:
        self.lost = 0
        """Lines lost since the last one that was written."""
        self._stream = stream
        self._descriptor = _descriptor(stream)
        self._patience = patience
        self._is_torn = False
        if self._descriptor is not None:
            self._poll = select.poll()
            self._poll.register(self._descriptor, select.POLLOUT)

    def __repr__(self) -> str:
        return f"<Sink: {self.lost} lines lost>"

    def write(self, line: str) -> None:
        """Write a line, given without its end. Raises nothing that the stream does."""
        try:
            is_written = self._write(line + "\n")
        except (OSError, ValueError):  # closed by us or by its reader
            is_written = False
        self.lost = 0 if is_written else self.lost + 1

    # A logger calls the method of the level.
    debug = info = warning = error = critical = write

    def _write(self, text: str) -> bool:
        if self._stream is None or self._stream.closed:
            return False
        if self._descriptor is not None:
            return self._put(self._descriptor, text.encode(errors="backslashreplace"))
        self._stream.write(text)
        self._stream.flush()
        return True

    def _put(self, descriptor: int, line: bytes) -> bool:
        # The rest of a line that was torn off shall spoil no other one.
        left = b"\n" + line if self._is_torn else line
        while left:
            if not self._poll.poll(0 if self.lost else self._patience * 1000):
                return False
            left = left[os.write(descriptor, left[:PIECE]) :]
            self._is_torn = bool(left)
        return True


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None
