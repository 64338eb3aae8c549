"""Results of calls to DCS, typed by what they prove.

Law `evidence`: a result means "nothing was created" only with proof. An unknown result is ambiguous.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

MAX_SUMMARY_CHARACTERS: Final = 200
"""The service's texts can be of any length."""


class Evidence(Enum):
    """What is proved about a call that did not succeed."""

    NEVER_SENT = "never_sent"
    """No byte of the request left this process."""
    REFUSED = "refused"
    """A parsed answer says that the service did not act."""
    AMBIGUOUS = "ambiguous"
    """The service may have acted."""


class ErrorKind(Enum):
    """Kind of an error: what helps against it."""

    RETRY = "retry"
    """Time."""
    THROTTLED = "throttled"
    """Fewer calls; the error does not concern the request."""
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


class ErrorScope(Enum):
    """Scope of an error: which other calls meet it too."""

    REQUEST = "request"
    """This request alone: the service answered."""
    PROJECT = "project"
    """Every request of the project."""
    CREDENTIALS = "credentials"
    """Every call with the same credentials."""
    REGION = "region"
    """Every call in the region: they exceed a limit, or the endpoint is wrong."""
    SERVICE = "service"
    """The service, or the network on the way to it."""


class Condition(Enum):
    """What the text of an error answer says beyond its status and code."""

    PROJECT_THROTTLED = "project_throttled"
    REGION_THROTTLED = "region_throttled"
    CLOCK_SKEW = "clock_skew"
    """Signatures are refused because this machine's clock is wrong."""
    KEY_LOCKED = "key_locked"
    """Too many calls with a wrong signature: the access key is locked for some minutes."""


class CallStatus(Enum):
    """How a call ended; the value is the label of metrics, journal and logs, except for ANSWERED."""

    ANSWERED = "answered"
    """By an answer of the service: its label is the HTTP status."""
    TIMEOUT = "timeout"
    CONNECTION_REFUSED = "refused"
    """No connection was made."""
    RESET = "reset"
    """The connection was lost."""
    STALE_ANSWER = "stale_answer"
    """The answer may belong to another call."""
    OVERSIZE = "oversize"
    """The answer is too large."""
    UNREADABLE = "unreadable"
    """The answer is a success without the expected content."""
    INCOMPLETE_LIST = "pages"
    """A list has too many pages, or rows moved between them."""
    STALE = "stale"
    """Abandoned before it was sent: the delivery may belong to another replica."""
    FROZEN = "frozen"
    """Abandoned before it was sent: the process had been frozen."""
    NO_CREDENTIALS = "credentials"
    IAM_UNAVAILABLE = "iam"
    METADATA_UNAVAILABLE = "metadata"
    """No keys of the server's metadata service, or of the pod identity agent."""


@dataclass(frozen=True, slots=True)
class NamedLimit:
    """A limit that the service named: `calls` per `window` seconds."""

    calls: int
    window: float


@dataclass(frozen=True, slots=True)
class CallError:
    """A call that did not succeed."""

    evidence: Evidence
    kind: ErrorKind
    status: CallStatus
    message: str = ""
    http_status: int | None = None
    error_code: str | None = None
    error_msg: str | None = None
    error_ext_msg: str | None = None
    dcs_request_id: str | None = None
    retry_after: float | None = None
    """Seconds that the service asked to wait."""
    condition: Condition | None = None
    throttle: NamedLimit | None = None

    @property
    def label(self) -> str:
        """The label of the call in metrics, journal and logs: `429`, `timeout`, `refused`, `reset`, ..."""
        return str(self.http_status) if self.status is CallStatus.ANSWERED else self.status.value

    @property
    def summary(self) -> str:
        """Status and code of the answer (`404 APIGW.0101`), or what happened instead of one."""
        if self.status is not CallStatus.ANSWERED:
            return (self.message or self.label)[:MAX_SUMMARY_CHARACTERS]
        return f"{self.label} {self.error_code or self.error_msg or ''}".strip()[:MAX_SUMMARY_CHARACTERS]

    @property
    def description(self) -> str:
        """The summary, and the message if it says more."""
        said = self.message.rstrip(".")
        return (self.summary if said in self.summary else f"{self.summary}: {said}")[:MAX_SUMMARY_CHARACTERS]

    @property
    def is_ambiguous(self) -> bool:
        """True if the service may have acted."""
        return self.evidence is Evidence.AMBIGUOUS


@dataclass(frozen=True, slots=True)
class TaskCreated:
    """A create call that succeeded: the answer named the task."""

    instance_id: str
    job_id: str | None = None
    dcs_request_id: str | None = None
    task_status: str | None = None
    """The status word of the service, of a task that a look-up found."""


@dataclass(frozen=True, slots=True)
class TaskFound:
    """A look-up found exactly one task of the request."""

    instance_id: str
    dcs_request_id: str | None = None
    task_status: str | None = None
    """The status word of the service; `ERROR`, `RELEASED` and `DELETED` tasks are found too."""


@dataclass(frozen=True, slots=True)
class TaskNotFound:
    """A look-up saw every page and no task of the request."""


@dataclass(frozen=True, slots=True)
class SeveralTasks:
    """A look-up found candidates, none of which is certainly the only task of the request."""

    candidates: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class ConflictingTask:
    """A look-up found only tasks of another request with the same request id."""

    candidates: tuple[str, ...]


LookupResult = TaskFound | TaskNotFound | SeveralTasks | ConflictingTask
CallResult = TaskCreated | LookupResult | CallError


class UnconfirmedError(Exception):
    """The broker did not confirm a publish within its deadline, refused it, or could not route it."""


class UncopyableError(Exception):
    """The broker closes the connection for every copy of a message: it can only be dead-lettered."""


class StaleDeliveryError(Exception):
    """A delivery cannot be settled: its channel is gone, and it will be delivered again; or it was settled before."""


class ThrottleClosedError(Exception):
    """No further call may begin on this replica, which drains or may not work without Redis: `why`, in one word."""

    def __init__(self, why: str = "drain") -> None:
        super().__init__(why)
        self.why = why


class PostponedError(Exception):
    """A call may not begin for a long time: the request waits in the broker for `seconds`, at no cost."""

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(f"{why}: {seconds:g} s")
        self.seconds = seconds
        self.why = why
