"""Shared parts of the commands: exit statuses, signals, durations, tables."""

import asyncio
import os
import signal

import pytest

from worker.cli.common import (
    OutputError,
    exit_status_of,
    fail,
    format_table,
    parse_duration,
    printable,
    run_interruptible,
    short_duration,
)
from worker.config import ConfigurationError
from worker.rabbit.tools.broker_access import BrokerError
from worker.rabbit.tools.parked_queue import ParkedQueueInUseError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cancels_work_and_lets_it_clean_up(number: signal.Signals) -> None:
    """The exit status names the signal."""
    cleaned: list[bool] = []

    async def work() -> int:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)
        return 0

    assert (run_interruptible(work()), cleaned) == (128 + number, [True])


def test_work_without_signal_ends_with_its_own_status() -> None:
    """The status is the result of the work."""

    async def work() -> int:
        return 69

    assert run_interruptible(work()) == 69


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BrokerError("no broker"), 69),
        (ParkedQueueInUseError("no broker"), 1),
        (OutputError("no broker"), 1),
        (ConfigurationError(("no broker",)), 78),
    ],
)
async def test_expected_error_of_work_is_one_line_and_an_exit_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is printed on standard error, without a traceback."""

    async def work() -> None:
        raise error

    assert await exit_status_of(work()) == status
    assert capsys.readouterr() == ("", "no broker\n")


async def test_work_without_result_is_done() -> None:
    """None is exit status 0."""

    async def work() -> None:
        pass

    assert await exit_status_of(work()) == 0


@pytest.mark.parametrize(("text", "length"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), (" 3d ", 259_200)])
def test_duration_is_a_number_with_optional_unit(text: str, length: float) -> None:
    """Without unit it is in seconds."""
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "h", "-1h", "1w", "1h30m", "inf", "1e3"])
def test_invalid_duration_is_an_error_with_examples(text: str) -> None:
    """The message shows valid durations."""
    with pytest.raises(ValueError, match="90s, 15m, 2h or 3d"):
        parse_duration(text)


def test_short_duration_is_rounded_down_in_the_largest_unit() -> None:
    """It is never negative."""
    assert [short_duration(length) for length in (-5, 0, 59.9, 60, 3599, 3600, 86_399, 86_400 * 400)] == [
        *("0 s", "0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "400 d")
    ]


def test_table_is_aligned_and_has_no_control_characters() -> None:
    """Numbers are aligned to the right, and lines have no trailing spaces."""
    assert format_table(("name", "n"), [("a\x1b[0m\n", 7), ("long name", 1000)], right=("n",)) == (
        "name          n\na\ufffd[0m\ufffd        7\nlong name  1000"
    )
    assert printable("\udc80ü\u202e") == "\ufffdü\ufffd"


def test_failure_is_one_sentence_on_standard_error_and_an_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    """The status is 1 unless it is given."""
    assert (fail("no such file"), fail("no broker", 69)) == (1, 69)
    assert capsys.readouterr() == ("", "no such file\nno broker\n")
