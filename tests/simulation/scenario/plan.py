"""What decides a run: who sends what, how calls end, which fault strikes where. One plan, one run, every time."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.policy.retry_policy import RetryPolicy


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Errand(_Frozen):
    """One request, and what the world does to it."""

    script: tuple[str, ...] = ()
    """How its create calls end, in order; those after the last end well."""
    at: float = 0.0
    """When it is sent (seconds)."""
    copies: tuple[float, ...] = ()
    """When its sender sends it again."""
    clashes: tuple[float, ...] = ()
    """When somebody sends another task under its request id."""
    not_after: float | None = None
    """Seconds after the beginning."""
    strangers: int = 0
    """Tasks that others made under the same name for the same networks."""
    kills: str | None = None
    """The port call at which it takes its worker down, every time."""
    is_broken: bool = False
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

    def strikes(self, project_id: str, now: float, *, creates: bool) -> bool:
        """Whether a call that begins now ends so."""
        is_meant = self.project == project_id and creates if self.project else True
        return is_meant and self.at <= now < self.at + self.seconds


class Timed(_Frozen):
    """A fault that strikes a replica at a time."""

    at: float
    replica: int
    fault: str


class Plan(_Frozen):
    """A run. Durations in seconds."""

    errands: tuple[Errand, ...] = (Errand(),)
    replicas: int = 2
    claims: bool = False
    reconcile: Literal["ambiguous", "always", "off"] = "ambiguous"
    marker: bool = True
    one_name: bool = False
    """All tasks have one name."""
    tries: int = 3
    settle: float = 45.0
    delays: tuple[float, ...] = (10.0, 60.0, 300.0, 1800.0)
    limit: int = 10
    """Deliveries without an end after which a request is poison."""
    has_echo: bool = False
    """Once all is over, every replica gets a copy of every request."""
    prefetch: int = 3
    lag: float = 0.0
    """Until a task is listed after it was created."""
    bound: Literal["cut", "deadline"] = "cut"
    """The settle time after which a task is listed runs from the end of its call, as the package assumes (`cut`), or
    only from the deadline of its call: more than the worker promises to bear."""
    drift: float = 4.9
    """By how much the replicas' clocks differ at most."""
    seed: int = 0
    """Decides latencies, jitter, clocks, which replica is served, and the faults by `rate`."""
    rate: float = 0.0
    """Chance of a fault at each port call, as long as the budget lasts."""
    budget: int = 0
    only: tuple[str, ...] = ()
    """The faults that strike by chance; none given: all."""
    faults: dict[int, str] = {}
    """Which fault strikes at which port call."""
    timed: tuple[Timed, ...] = ()
    outages: tuple[Outage, ...] = ()

    @property
    def is_calm(self) -> bool:
        """Whether nothing fails but what is planned of the service."""
        return not (self.budget or self.faults or self.timed)

    @property
    def rules(self) -> RetryPolicy:
        """The worker's settings."""
        return RetryPolicy(
            delays=self.delays,
            tries=self.tries,
            reconcile=self.reconcile,
            settle=self.settle,
            delivery_limit=self.limit,
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
            lines = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
            raise ValueError("; ".join(lines)) from None
