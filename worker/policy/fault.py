"""How a call of the service can end, typed by evidence.

Law 1: an ending counts as "nothing was created" only with proof. Everything unknown is ambiguous.
"""

from dataclasses import dataclass, field
from enum import Enum


class Evidence(Enum):
    """What is proved about a call that did not succeed."""

    NEVER_SENT = "never_sent"
    """No byte of the request left this process."""
    REFUSED = "refused"
    """A parsed answer says that the service did not act."""
    AMBIGUOUS = "ambiguous"
    """The service may have acted."""


class Remedy(Enum):
    """What helps after a fault."""

    RETRY = "retry"
    """Time."""
    THROTTLED = "throttled"
    """Fewer calls; the request itself is not to blame."""
    CAPACITY = "capacity"
    """Much time: a quota, a zone or a subnet is full."""
    REJECTED = "rejected"
    """Another request."""
    UNAUTHENTICATED = "unauthenticated"
    """Other credentials."""
    FORBIDDEN = "forbidden"
    """More rights."""
    NOT_FOUND = "not_found"
    """Another project, region or endpoint."""


class Scope(Enum):
    """Whom a throttle is meant for."""

    REGION = "region"
    PROJECT = "project"


@dataclass(frozen=True, slots=True)
class Throttle:
    """A limit that the service named: `calls` per `window` seconds."""

    calls: int
    window: float
    scope: Scope


@dataclass(frozen=True, slots=True)
class Fault:
    """A call that did not succeed."""

    evidence: Evidence
    remedy: Remedy
    label: str
    """The status of the call in metrics: `429`, `timeout`, `refused`, `reset`, ..."""
    message: str = ""
    status: int | None = None
    error_code: str | None = None
    error_msg: str | None = None
    error_ext_msg: str | None = None
    dcs_request_id: str | None = None
    retry_after: float | None = None
    """Seconds that the service asked to wait."""
    throttle: Throttle | None = None

    @property
    def is_ambiguous(self) -> bool:
        """True if the service may have acted."""
        return self.evidence is Evidence.AMBIGUOUS


@dataclass(frozen=True, slots=True)
class Done:
    """A create call that succeeded: the answer named the task."""

    instance_id: str
    job_id: str | None = None
    dcs_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A look-up found exactly one task of the request."""

    instance_id: str
    dcs_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Absent:
    """A look-up saw every page and no task of the request."""


@dataclass(frozen=True, slots=True)
class Several:
    """A look-up found more than one candidate."""

    candidates: tuple[str, ...] = field(default=())


Sighting = Found | Absent | Several


class UnconfirmedError(Exception):
    """The broker did not confirm a publish within its deadline, refused it, or could not route it."""


class StaleDeliveryError(Exception):
    """The channel of a delivery is gone: it cannot be acknowledged, and it will be delivered again."""


class GateClosedError(Exception):
    """This replica is draining: no further call may begin."""


class StepAsideError(Exception):
    """A call may not begin for so long that the request had better wait in the broker, for `seconds`, at no cost."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(f"{why}: {seconds:g} s")
        self.seconds = seconds
        self.why = why
