"""What a check-up finds, and what each finding asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum


class Result(Enum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but somebody should know."""
    FAILED = "failed"
    NOT_CHECKED = "not checked"
    """It does not apply, or cannot be told from here; `found` says which."""


class Trouble(Enum):
    """Of what kind a failure is, the one that has to be cured first coming first."""

    CONFIGURATION = "configuration"
    UNREACHABLE = "unreachable"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Hurdle:
    """What keeps us from going on, in one sentence, and its remedy."""

    found: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `name` says what was checked, `subject` on what; `remedy` is a command or a variable to set."""

    name: str
    result: Result
    found: str
    remedy: str | None = None
    subject: str = ""
    trouble: Trouble | None = None


Tell = Callable[[Check], None]
"""Takes one finding at a time, so that those before a deadline are not lost."""


def ok(name: str, found: str, *, subject: str = "") -> Check:
    """Nothing is to be done."""
    return Check(name, Result.OK, found, None, subject)


def warning(name: str, found: str, remedy: str, *, subject: str = "") -> Check:
    """Something should be done, some day."""
    return Check(name, Result.WARNING, found, remedy, subject)


def failed(name: str, found: str, remedy: str, *, subject: str = "", trouble: Trouble = Trouble.WRONG) -> Check:
    """Something has to be done."""
    return Check(name, Result.FAILED, found, remedy, subject, trouble)


def unchecked(name: str, found: str, remedy: str | None = None, *, subject: str = "") -> Check:
    """Nothing is known; `remedy` is how to find out."""
    return Check(name, Result.NOT_CHECKED, found, remedy, subject)


def trouble(checks: Sequence[Check]) -> Trouble | None:
    """What has to be cured first; None if nothing failed."""
    kinds = {check.trouble for check in checks if check.result is Result.FAILED}
    return next((kind for kind in Trouble if kind in kinds), None)
