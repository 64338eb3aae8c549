"""What a check-up finds, and what each finding asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum


class CheckResult(Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but somebody should know."""
    FAILED = "failed"
    NOT_CHECKED = "not checked"
    """It does not apply, or cannot be told from here; `found` says which."""


class FailureKind(Enum):
    """Of what kind a failure is, the one that has to be cured first coming first."""

    CONFIGURATION = "configuration"
    UNREACHABLE = "unreachable"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Problem:
    """What keeps us from going on, in one sentence, and its remedy."""

    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `name` says what was checked, `subject` on what; `remedy` is a command or a variable to set."""

    name: str
    result: CheckResult
    found: str
    remedy: str | None = None
    subject: str = ""
    failure_kind: FailureKind | None = None


OnCheck = Callable[[Check], None]
"""Takes one finding at a time, so that those before a deadline are not lost."""


def ok(name: str, found: str, *, subject: str = "") -> Check:
    """Nothing is to be done."""
    return Check(name, CheckResult.OK, found, None, subject)


def warning(name: str, found: str, remedy: str, *, subject: str = "") -> Check:
    """Something should be done, some day."""
    return Check(name, CheckResult.WARNING, found, remedy, subject)


def failed(
    name: str, found: str, remedy: str, *, subject: str = "", failure_kind: FailureKind = FailureKind.WRONG
) -> Check:
    """Something has to be done."""
    return Check(name, CheckResult.FAILED, found, remedy, subject, failure_kind)


def unchecked(name: str, found: str, remedy: str | None = None, *, subject: str = "") -> Check:
    """Nothing is known; `remedy` is how to find out."""
    return Check(name, CheckResult.NOT_CHECKED, found, remedy, subject)


def most_urgent_failure(checks: Sequence[Check]) -> FailureKind | None:
    """What has to be cured first; None if nothing failed."""
    kinds = {check.failure_kind for check in checks if check.result is CheckResult.FAILED}
    return next((kind for kind in FailureKind if kind in kinds), None)
