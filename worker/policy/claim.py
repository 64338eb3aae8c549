"""What asking for a claim on a request can answer: law 4 across replicas."""

from dataclasses import dataclass

from worker.policy.outcome import Completed


@dataclass(frozen=True, slots=True)
class Granted:
    """The request is ours until released."""

    is_first: bool = True
    """Nobody claimed it before: no create was ever sent for it under a claim."""
    last_sent_at: float | None = None
    """When a create may last have been in flight under an earlier claim."""


@dataclass(frozen=True, slots=True)
class ClaimedElsewhere:
    """Another replica works on the request now."""

    fingerprint: str
    is_last_send_unknown: bool = False
    """Nothing will tell afterwards what that replica sent: a create of it must be given time to be listed."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """The request ended before, like this."""

    ending: Completed


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The claims cannot be asked: go on, but look before every create."""


ClaimAnswer = Granted | ClaimedElsewhere | Concluded | Unavailable
