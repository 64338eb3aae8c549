"""What decides a run: who sends what, how calls end, which fault strikes where. One plan, one run, every time."""

from functools import lru_cache
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.timestamp import to_text
from worker.policy.retry_policy import RetryPolicy

REGION: Final = "r"
"""The one region of the simulated worker."""
START_EPOCH_SECONDS: Final = 1_800_000_000.0
"""Epoch time at the beginning of a run, by the clock of DCS."""
CREATE_DEADLINE_SECONDS: Final = 30.0
"""Deadline of a whole create call."""
RequestKey = tuple[int, bool]
"""Request of a message: index in `Plan.requests`, and whether it is a clash (another task under the same id)."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedRequest(_Frozen):
    """One request, and what the world does to it."""

    call_endings: tuple[str, ...] = ()
    """How its create calls end, in order; those after the last end well."""
    at: float = 0.0
    """When it is sent (seconds)."""
    copies: tuple[float, ...] = ()
    """When its sender sends it again."""
    clashes: tuple[float, ...] = ()
    """When somebody sends another task under its request id."""
    not_after: float | None = None
    """Seconds after the beginning."""
    unrelated_tasks: int = 0
    """Tasks that others made under the same name for the same networks."""
    kills_at: str | None = None
    """The port call at which it takes its worker down, every time."""
    is_invalid: bool = False
    """It is no valid request."""
    project: str = "p"


class Outage(_Frozen):
    """Calls that end alike for some time, whatever the request is."""

    at: float
    seconds: float
    ending: Literal["unsent", "error", "key-refused", "no-endpoint", "forbidden", "full", "throttled"]
    """One of the endings of create calls. Looks and probes end so as well, unless it is of one project."""
    project: str = ""
    """The only project that it concerns, and there the create calls only; empty: all calls."""

    def applies_to(self, project_id: str, now: float, *, creates: bool) -> bool:
        """Whether a call that begins now ends so."""
        is_meant = self.project == project_id and creates if self.project else True
        return is_meant and self.at <= now < self.at + self.seconds


class TimedFault(_Frozen):
    """A fault that strikes a replica at a time."""

    at: float
    replica: int
    fault: str


class Plan(_Frozen):
    """A run. Durations in seconds."""

    requests: tuple[PlannedRequest, ...] = (PlannedRequest(),)
    replicas: int = 2
    claims: bool = False
    reconcile: Literal["ambiguous", "always", "off"] = "ambiguous"
    marker: bool = True
    has_shared_name: bool = False
    """All tasks have one name."""
    tries: int = 3
    listing_delay: float = 45.0
    delays: tuple[float, ...] = (10.0, 60.0, 300.0, 1800.0)
    delivery_limit: int = 10
    """Deliveries without an end after which a request is poison."""
    repeats_at_end: bool = False
    """Once all is over, every replica gets a copy of every request."""
    prefetch: int = 3
    listing_lag: float = 0.0
    """Until a task is listed after it was created."""
    listing_delay_from: Literal["call_end", "deadline"] = "call_end"
    """When the listing delay of a task begins: at the end of its create call, as the worker assumes (`call_end`), or at
    the deadline of the call, which is more than the worker promises to handle."""
    clock_drift: float = 4.9
    """By how much the replicas' clocks differ at most."""
    seed: int = 0
    """Decides latencies, jitter, clocks, which replica is served, and the faults by `rate`."""
    fault_rate: float = 0.0
    """Chance of a fault at each port call, as long as the budget lasts."""
    fault_budget: int = 0
    only_faults: tuple[str, ...] = ()
    """The faults that strike by chance; none given: all."""
    faults: dict[int, str] = {}
    """Which fault strikes at which port call."""
    timed_faults: tuple[TimedFault, ...] = ()
    outages: tuple[Outage, ...] = ()

    @property
    def is_calm(self) -> bool:
        """Whether nothing fails but what is planned of the service."""
        return not (self.fault_budget or self.faults or self.timed_faults)

    @property
    def rules(self) -> RetryPolicy:
        """The worker's settings."""
        return RetryPolicy(
            delays=self.delays,
            tries=self.tries,
            reconcile=self.reconcile,
            settle=self.listing_delay,
            delivery_limit=self.delivery_limit,
        )

    def to_text(self) -> str:
        """JSON of whatever differs from the default."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The plan that `to_text` wrote. Raises ValueError with a readable sentence."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            lines = [
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
            ]
            raise ValueError("; ".join(lines)) from None


@lru_cache(maxsize=1024)
def message_body(
    request_key: RequestKey, not_after: float | None, project: str, *, has_shared_name: bool, is_invalid: bool
) -> bytes:
    """The message of a request."""
    number, is_clash = request_key
    if is_invalid:
        return f'{{"request_id": "r{number}"}}'.encode()
    until = "" if not_after is None else f'"not_after": "{to_text(START_EPOCH_SECONDS + not_after)}", '
    task = task_body(number, has_shared_name=has_shared_name, vpc="other" if is_clash else "v")
    return f'{{"request_id": "r{number}", "project_id": "{project}", {until}"task": {task}}}'.encode()


def task_body(number: int, *, has_shared_name: bool, vpc: str = "v") -> str:
    """The task that a request orders."""
    name = "t" if has_shared_name else f"t{number}"
    return f'{{"name": "{name}", "vpc_id": "{vpc}", "subnet_id": "s", "security_group_id": "g"}}'
