"""The table of `doctor`, and the redaction of secrets in findings."""

from worker.cli.doctor.report import format_rows, redact_checks, summary
from worker.config import Settings
from worker.policy.diagnostics import failed, ok, unchecked, warning

LONG = "rabbitmqctl set_permissions -p / someone '^a very long pattern$' '^another one$' '^and one more$' " * 2
CHECKS = [
    ok("broker", "lets someone in", subject="host:5672"),
    failed("queue", "one word after the other, more of them than a line can hold on any screen", LONG, subject="q"),
    warning("clock", "is off", "set it"),
    unchecked("claims", "off"),
]


def _lines(width: int) -> list[str]:
    return "\n".join(lead + rest for lead, rest in format_rows(CHECKS, width)).splitlines()


def test_finding_that_fits_is_one_line_and_its_remedy_another_one() -> None:
    """Failures are in capitals; the remedy is a command, which is never broken."""
    lines = _lines(120)

    assert lines[0] == "ok           broker host:5672  lets someone in"
    assert lines[1] == f"FAILED       queue q           {CHECKS[1].found}"
    assert lines[2] == f"             -> {LONG}"
    assert lines[-1] == "not checked  claims            off"


def test_long_title_shifts_its_finding_and_is_not_cut() -> None:
    """The finding after a long queue name is complete."""
    check = ok("queue", "exists, as configured; " * 5, subject="q" * 100)
    ((lead, rest),) = format_rows([check], 80)

    text = f"{lead}{rest}"
    assert "q" * 100 in text
    assert " ".join(text.split()).endswith(" ".join(check.found.split()))


def test_lines_of_80_columns_break_between_words() -> None:
    """What does not fit behind the title is below it; prose of a remedy wraps, a command in it is kept whole."""
    command = "`rabbitmqctl list_queues -p / name messages arguments policy`"
    remedy = f"once the queue is empty, which is shown on the broker by {command} and by its page, delete it"
    checks = [*CHECKS, warning("queue", "holds " + "many messages " * 8, remedy, subject="q" * 40)]
    lines = "\n".join(lead + rest for lead, rest in format_rows(checks, 80)).splitlines()

    assert [line for line in lines if len(line) > 80] == [f"             -> {LONG}"]
    assert lines[1:4] == [
        "FAILED       queue q",
        "             one word after the other, more of them than a line can hold on any",
        "             screen",
    ]
    assert sum(command in line for line in lines) == 1
    below = lines[lines.index("warning      queue " + "q" * 40) + 1 :]
    assert all(line.startswith(" " * 13) for line in below)
    assert " ".join(" ".join(below).split()).endswith(f"-> {remedy}")


def test_summary_counts_failures_first() -> None:
    """Then come warnings, unchecked and successful checks."""
    assert summary(CHECKS) == "1 failed, 1 warning, 1 not checked, 1 ok"


def test_secrets_in_answers_of_services_are_redacted() -> None:
    """No secret of the settings is in a finding, percent-encoded or not."""
    settings = Settings.model_validate(
        {
            "amqp_url": "amqp://someone:se%2Fcret-1@host/,amqp://guest:guest@host/",
            "claims_url": "redis://:secret-2@host",
            "auth_token": "secret-3",
        }
    )
    answer = "it answered se/cret-1 and se%2Fcret-1, secret-2, secret-3 and http://x:secret-4@y/"

    (shown,) = redact_checks([failed("a", answer, f"do {answer}", subject=answer)], settings)

    assert "cret-" not in f"{shown.found} {shown.remedy} {shown.subject}"


def test_user_name_equal_to_its_password_is_not_redacted() -> None:
    """Otherwise `guest` would be missing in remedies."""
    check = failed("a", "lacks a right", "rabbitmqctl set_permissions guest")

    assert redact_checks([check], Settings()) == [check]
