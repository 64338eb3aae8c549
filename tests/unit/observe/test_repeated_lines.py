"""Floods of log lines: the first of a kind are written, the rest is counted, and none is lost."""

from dataclasses import replace

from worker.observe.repeated_lines import MAX_KINDS, MAX_LINES, WINDOW_SECONDS, LineKind, RepeatedLines

KIND = LineKind(30, "request.failed", "cn-north-4", "rejected", "DCS.4013")


class Log:
    """Written lines and summaries of a limiter whose clock stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.summaries: list[tuple[LineKind, int, float]] = []
        self.lines = RepeatedLines(lambda *summary: self.summaries.append(summary), lambda: self.now)

    def write(self, count: int, kind: LineKind = KIND) -> int:
        """So many lines; how many of them are written."""
        return sum(self.lines.admits(kind) for _ in range(count))


def test_flood_of_one_kind_is_summarised_at_the_end_of_its_window() -> None:
    """Written and counted lines are all lines; a window without more than the first lines has no summary."""
    log = Log()
    assert log.write(300) == MAX_LINES
    assert log.write(3, replace(KIND, reason="conflict")) == 3
    log.now = WINDOW_SECONDS - 0.1
    log.lines.flush()
    assert log.summaries == []
    log.now = WINDOW_SECONDS
    log.lines.flush()
    assert log.summaries == [(KIND, 300 - MAX_LINES, WINDOW_SECONDS)]
    log.lines.flush(is_last=True)
    assert len(log.summaries) == 1


def test_next_window_begins_with_written_lines() -> None:
    """Also if nothing flushed the window before; its summary comes first."""
    log = Log()
    log.write(MAX_LINES + 2)
    log.now = WINDOW_SECONDS + 1.0
    assert log.write(1) == 1
    assert log.summaries == [(KIND, 2, WINDOW_SECONDS + 1.0)]


def test_every_field_of_a_kind_counts() -> None:
    """A flood hides no line with another level, event, region, reason or code."""
    log = Log()
    log.write(100)
    others = [
        replace(KIND, level=40),
        replace(KIND, event="request.retried"),
        replace(KIND, region=None),
        replace(KIND, reason="conflict"),
        replace(KIND, error_code=None),
    ]
    assert [log.write(1, kind) for kind in others] == [1] * len(others)


def test_last_flush_counts_open_windows() -> None:
    """A worker that stops accounts for every line."""
    log = Log()
    log.write(MAX_LINES + 5)
    log.now = 2.0
    log.lines.flush(is_last=True)
    assert log.summaries == [(KIND, 5, 2.0)]


def test_memory_is_bounded_and_no_line_is_lost() -> None:
    """Any number of error codes: the oldest window ends early, with its summary."""
    log = Log()
    kinds = [replace(KIND, error_code=f"DCS.{number}") for number in range(MAX_KINDS * 2)]
    written = sum(log.write(MAX_LINES + 1, kind) for kind in kinds)
    assert repr(log.lines) == f"<RepeatedLines: {MAX_KINDS} kinds>"
    log.lines.flush(is_last=True)
    assert written + sum(count for _, count, _ in log.summaries) == len(kinds) * (MAX_LINES + 1)
