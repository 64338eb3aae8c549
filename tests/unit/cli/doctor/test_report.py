"""The table of `doctor`."""

from worker.cli.doctor.redaction import redact_checks
from worker.cli.doctor.report import format_rows, summary
from worker.config import Settings
from worker.policy.diagnostics import failed, ok, unchecked, warning

LONG = "rabbitmqctl set_permissions -p / someone '^a very long pattern$' '^another one$' '^and one more$' " * 2
CHECKS = [
    ok("broker", "lets someone in", subject="host:5672"),
    failed("queue", "one word after the other, more of them than a line can hold on any screen", LONG, subject="q"),
    warning("clock", "is off", "set it"),
    unchecked("claims", "are off"),
]


def _lines(width: int | None) -> list[str]:
    return "\n".join(lead + rest for lead, rest in format_rows(CHECKS, width)).splitlines()


def test_findings_stand_below_each_other() -> None:
    """In a pipe every check has one line, its remedy another one, and failures are seen at a glance."""
    lines = _lines(None)

    assert lines[0] == "ok           broker host:5672  lets someone in"
    assert lines[1] == f"FAILED       queue q           {CHECKS[1].found}"
    assert lines[2] == f"             -> {LONG}"
    assert lines[-1] == "not checked  claims            are off"


def test_a_terminal_breaks_sentences_but_no_remedy() -> None:
    """Sentences go on in their own column; a remedy stays in one piece, to be copied."""
    lines = _lines(80)

    assert all(len(line) <= 80 for line in lines if "->" not in line)
    assert [line[:31].strip() for line in lines[1:3]] == ["FAILED       queue q", ""]
    assert " ".join(line[31:] for line in lines[1:3]) == CHECKS[1].found
    assert f"             -> {LONG}" in lines


def test_a_long_title_moves_its_sentence_and_loses_nothing() -> None:
    """A queue with a long name shifts the beginning of its own sentence only."""
    check = ok("queue", "is there, as wanted; " * 5, subject="q" * 100)
    ((lead, rest),) = format_rows([check], 160)

    text = f"{lead}{rest}"
    assert "q" * 100 in text
    assert " ".join(text.split()).endswith(" ".join(check.found.split()))


def test_a_narrow_terminal_is_left_to_break_lines_itself() -> None:
    """Where hardly a word fits beside the titles, lines stay whole."""
    assert _lines(40) == _lines(None)


def test_what_matters_most_is_counted_first() -> None:
    """The last line counts the results."""
    assert summary(CHECKS) == "1 failed, 1 warning, 1 not checked, 1 ok"


def test_secrets_that_others_repeat_are_masked() -> None:
    """Whatever a broker or a service says, no secret of the settings stands in a finding, percent-encoded or not."""
    settings = Settings.model_validate(
        {
            "amqp_url": "amqp://someone:se%2Fcret-1@host/,amqp://guest:guest@host/",
            "claims_url": "redis://:secret-2@host",
            "auth_token": "secret-3",
        }
    )
    said = "it said se/cret-1 and se%2Fcret-1, secret-2, secret-3 and http://x:secret-4@y/"

    (shown,) = redact_checks([failed("a", said, f"do {said}", subject=said)], settings)

    assert "cret-" not in f"{shown.found} {shown.remedy} {shown.subject}"


def test_a_name_that_is_its_own_password_can_be_read() -> None:
    """RabbitMQ's own guest would take its name out of every remedy."""
    check = failed("a", "lacks a right", "rabbitmqctl set_permissions guest")

    assert redact_checks([check], Settings()) == [check]
