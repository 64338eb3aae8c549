"""What several commands share: spans of time, tables, a pace, and how far they are."""

import io

import pytest

from worker.cli.common import format_table, parse_duration, printable, short_duration
from worker.cli.progress import Pacer, ProgressDisplay


@pytest.mark.parametrize(("text", "length"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), (" 3d ", 259_200)])
def test_spans_are_read(text: str, length: float) -> None:
    """A number, and a unit unless it is seconds."""
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "h", "-1h", "1w", "1h30m", "inf", "1e3"])
def test_what_is_no_span_is_refused(text: str) -> None:
    """With a sentence that says what would be one."""
    with pytest.raises(ValueError, match="90s, 15m, 2h or 3d"):
        parse_duration(text)


def test_spans_are_written_short() -> None:
    """In the largest unit that fits, rounded down, and never negative."""
    assert [short_duration(one) for one in (-5, 0, 59.9, 60, 3599, 3600, 86_399, 86_400 * 400)] == [
        *("0 s", "0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "400 d")
    ]


def test_tables_are_aligned_and_harmless() -> None:
    """Numbers to the right, no spaces at the ends of lines, no control codes out of cells."""
    assert format_table(("name", "n"), [("a\x1b[0m\n", 7), ("long name", 1000)], right=("n",)) == (
        "name          n\na\ufffd[0m\ufffd        7\nlong name  1000"
    )
    assert printable("\udc80ü\u202e") == "\ufffdü\ufffd"


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """What it shows."""
        return self.now

    async def sleep(self, length: float) -> None:
        """Let so much time pass."""
        self.now += length


async def test_a_pace_is_kept_and_never_made_up_for() -> None:
    """Eleven at 10 a second take a second; a break earns no burst, but a late turn is made up for."""
    clock = Clock()
    pacer = Pacer(10, clock, clock.sleep)
    for _ in range(11):
        await pacer.wait()
    assert clock.now == pytest.approx(1.0)

    clock.now += 60
    begun = clock.now
    for _ in range(11):
        await pacer.wait()
    assert clock.now - begun == pytest.approx(0.9)


async def test_without_a_rate_nobody_waits() -> None:
    """The clock stands still."""
    clock = Clock()
    pacer = Pacer(None, clock, clock.sleep)
    for _ in range(100):
        await pacer.wait()
    assert clock.now == 0


def test_away_from_a_terminal_progress_is_lines() -> None:
    """The last one always comes, with the rate of what was done while looking."""
    stream = io.StringIO()
    with ProgressDisplay("sent", 2000, stream) as display:
        display.start_at(1000)
        display.update(1500)

    (line,) = stream.getvalue().splitlines()
    assert line.startswith("1,500 of 2,000 sent, ")
    assert line.endswith(" left")
    assert "\x1b" not in line
