"""Plan of a run: requests, results of DCS calls, faults. The same plan always gives the same run."""

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
DESCRIPTION: Final = "Move of the caches of tenant 4711 into the new network, step 3 of 7, of the third wave"
"""Of every request, where DCS cuts descriptions."""
CUT_FORMS: Final = {"cut": 64, "cut short": 20}
"""Characters of a description that are left."""
RequestKey = tuple[int, bool]
"""Request of a message: index in `Plan.requests`, and whether it is a clash (another task under the same id)."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedRequest(_Frozen):
    """A request, and what DCS, senders and faults do to it."""

    call_endings: tuple[str, ...] = ()
    """Endings of its create calls, in order; later calls succeed."""
    at: float = 0.0
    """When its sender publishes it (seconds)."""
    copies: tuple[float, ...] = ()
    """When its sender publishes it again."""
    clashes: tuple[float, ...] = ()
    """When a sender publishes another task under its request id."""
    not_after: float | None = None
    """Deadline of the request, in seconds after the start of the run."""
    unrelated_tasks: int = 0
    """Number of tasks of other systems with the same name and networks."""
    kills_at: str | None = None
    """Fault point at which it crashes its worker, every time."""
    is_invalid: bool = False
    """The message is no valid request."""
    project: str = "p"
    fate: Literal["ready", "failed", "released", "deleted", "stuck"] = "ready"
    """What becomes of its tasks; `released` and `deleted`: after they were ready; `stuck`: they stay CREATING."""
    fate_after: float = 15.0
    """Seconds from the creation of a task until it is ready or failed, and again until it is released or deleted."""


class Outage(_Frozen):
    """An outage: all calls of DCS, or all creates of a project, end alike for some time."""

    at: float
    seconds: float
    ending: Literal["unsent", "error", "key-refused", "no-endpoint", "forbidden", "full", "throttled"]
    """One of the endings of create calls. Look-ups and probes end so too, unless the outage concerns one project."""
    project: str = ""
    """The project whose create calls it concerns; empty: all calls of all projects."""

    def applies_to(self, project_id: str, now: float, *, creates: bool) -> bool:
        """Whether a call that starts now ends so."""
        is_meant = self.project == project_id and creates if self.project else True
        return is_meant and self.at <= now < self.at + self.seconds


class TimedFault(_Frozen):
    """A fault of a replica at a given time."""

    at: float
    replica: int
    fault: str


class Plan(_Frozen):
    """Plan of a run. Durations in seconds."""

    requests: tuple[PlannedRequest, ...] = (PlannedRequest(),)
    replicas: int = 2
    claims: bool = False
    claims_away: Literal["look", "pause"] = "look"
    """What a replica does that cannot reach the claims."""
    reconcile: Literal["ambiguous", "always", "off"] = "always"
    marker: bool = True
    has_shared_name: bool = False
    """All tasks have the same name."""
    text_form: Literal["as sent", "folded", "unknown", "cut", "cut short"] = "as sent"
    """How DCS keeps names and descriptions: escaped, in capitals and with a character more, or with another name; cut:
    the description without its marker, which is the same for all requests."""
    tries: int = 3
    listing_delay: float = 45.0
    delays: tuple[float, ...] = (10.0, 60.0, 300.0, 1800.0)
    delivery_limit: int = 10
    """Interrupted deliveries after which a request is poison."""
    repeats_at_end: bool = False
    """At the end every replica gets a copy of every request."""
    prefetch: int = 3
    listing_lag: float = 0.0
    """Time from the creation of a task until DCS lists it."""
    listing_delay_from: Literal["call_end", "deadline"] = "call_end"
    """When the listing delay of a task begins: at the end of its create call, as the worker assumes (`call_end`), or at
    the deadline of the call, which is more than the worker promises to handle."""
    clock_drift: float = 4.9
    """Most by which the clocks of the replicas differ."""
    seed: int = 0
    """Seed of latencies, jitter, clocks, the choice of a replica, and random faults."""
    fault_rate: float = 0.0
    """Probability of a fault at each fault point, within `fault_budget`."""
    fault_budget: int = 0
    only_faults: tuple[str, ...] = ()
    """The random faults; empty: all."""
    faults: dict[int, str] = {}
    """Planned faults, by the number of their fault point."""
    timed_faults: tuple[TimedFault, ...] = ()
    outages: tuple[Outage, ...] = ()
    follow_up_timeout: float | None = None
    """Seconds for which created tasks are followed up; None: they are not."""

    @property
    def is_cut(self) -> bool:
        """Whether DCS cuts the markers off."""
        return self.text_form in CUT_FORMS

    @property
    def is_calm(self) -> bool:
        """Whether only DCS fails, as planned."""
        return not (self.fault_budget or self.faults or self.timed_faults)

    @property
    def policy(self) -> RetryPolicy:
        """Settings of the worker."""
        return RetryPolicy(
            delays=self.delays,
            tries=self.tries,
            reconcile=self.reconcile,
            claims_away=self.claims_away,
            settle=self.listing_delay,
            delivery_limit=self.delivery_limit,
        )

    def to_text(self) -> str:
        """JSON of the fields that differ from their default."""
        return self.model_dump_json(exclude_defaults=True)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a plan that `to_text` wrote. Raises ValueError with a readable sentence."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            lines = [
                f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
            ]
            raise ValueError("; ".join(lines)) from None


@lru_cache(maxsize=1024)
def message_body(
    request_key: RequestKey,
    not_after: float | None,
    project: str,
    *,
    has_shared_name: bool,
    is_invalid: bool,
    is_cut: bool,
) -> bytes:
    """Body of the message of a request."""
    number, is_clash = request_key
    if is_invalid:
        return f'{{"request_id": "r{number}"}}'.encode()
    until = "" if not_after is None else f'"not_after": "{to_text(START_EPOCH_SECONDS + not_after)}", '
    description = DESCRIPTION if is_cut else None
    task = task_body(number, description, has_shared_name=has_shared_name, vpc="other" if is_clash else "v")
    return f'{{"request_id": "r{number}", "project_id": "{project}", {until}"task": {task}}}'.encode()


def task_body(number: int, description: str | None = None, *, has_shared_name: bool, vpc: str = "v") -> str:
    """JSON of the task of a request."""
    name = "t" if has_shared_name else f"t{number}"
    described = f'"description": "{description}", ' if description else ""
    return f'{{"name": "{name}", {described}"vpc_id": "{vpc}", "subnet_id": "s", "security_group_id": "g"}}'
