"""From requests per day to what must be there: the arithmetic of `deploy/capacity.md`, and its tables.

`.venv/bin/python -m tools.bench.sizing` writes the document's tables anew.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.generated_part import with_part
from worker.config import Settings

MEASURED: Final = Path(__file__).with_name("capacity.json")
DOCUMENT: Final = Path(__file__).parents[2] / "deploy" / "capacity.md"

DAY: Final = 86_400
KEPT_DAYS: Final = 7
"""How long an outcome is remembered in Redis."""
PREFETCH: Final[int] = Settings.model_fields["prefetch"].default
EXAMPLES: Final = (10_000, 1_000_000, 100_000_000)


@dataclass(frozen=True)
class Measured:
    """What was found on one machine."""

    rabbitmq: str
    cpu_us: int
    rss_mb: int
    outcome_bytes: int
    amqp_connections: int
    redis_connections: int
    claim_bytes: int
    queue_in_per_second: int
    queue_through_per_second: int


@dataclass(frozen=True)
class Assumed:
    """What is not ours to measure; replace it with what your service and your senders do."""

    peak: float = 3.0
    """How many times the day's mean the busiest minutes bring."""
    calls: float = 2.1
    """Calls at the service per request: one look-up, one create, and a tenth more for repeats."""
    call_seconds: float = 1.0
    quota_per_second: float = 5.0
    """Calls that the service takes from one account in one region."""
    share: float = 0.5
    """Of what was measured, how much is planned with."""


@dataclass(frozen=True)
class Size:
    """What a number of requests per day needs."""

    per_day: int
    mean: float
    peak: float
    calls: float
    quotas: int
    in_flight: int
    cores: float
    queues: int
    replicas: int
    amqp_connections: int
    memory_mb: int
    redis_mb: int


def size(per_day: int, measured: Measured, assumed: Assumed) -> Size:
    """What so many requests per day need."""
    mean = per_day / DAY
    peak = mean * assumed.peak
    in_flight = _up(peak * assumed.calls * assumed.call_seconds)
    cores = peak * assumed.calls * measured.cpu_us / 1e6
    queues = _up(peak / (measured.queue_through_per_second * assumed.share))
    by_cpu, by_hold = _up(cores / assumed.share), _up(in_flight / PREFETCH)
    replicas = queues * max(2, _up(max(by_cpu, by_hold) / queues))
    redis = per_day * KEPT_DAYS * measured.outcome_bytes + in_flight * measured.claim_bytes
    return Size(
        per_day=per_day,
        mean=mean,
        peak=peak,
        calls=peak * assumed.calls,
        quotas=_up(peak * assumed.calls / assumed.quota_per_second),
        in_flight=in_flight,
        cores=cores,
        queues=queues,
        replicas=replicas,
        amqp_connections=replicas * measured.amqp_connections,
        memory_mb=replicas * measured.rss_mb,
        redis_mb=_up(redis / 1e6),
    )


def _up(number: float) -> int:
    """Rounded up, one at least, but for what is only the binary arithmetic's."""
    return max(1, math.ceil(round(number, 6)))


def read() -> Measured:
    """What was measured last."""
    return Measured(**json.loads(MEASURED.read_text()))


def figures(measured: Measured) -> str:
    """The measured constants as a table."""
    rows = [
        ("CPU of a request with one call, claims on, log level `info`", f"{measured.cpu_us:,} µs"),
        ("resident memory of a replica, 64 in flight", f"{measured.rss_mb} MB"),
        ("AMQP connections of a replica", f"{measured.amqp_connections}"),
        ("Redis connections of a replica", f"{measured.redis_connections}"),
        ("Redis, an outcome that is remembered", f"{measured.outcome_bytes:,} bytes"),
        ("Redis, a claim that is held", f"{measured.claim_bytes:,} bytes"),
        ("one quorum queue, in alone, each confirmed", f"{measured.queue_in_per_second:,} per second"),
        ("one quorum queue, in, out and acknowledged", f"{measured.queue_through_per_second:,} per second"),
    ]
    return _table(("measured", "found"), rows)


def examples(measured: Measured, assumed: Assumed) -> str:
    """The worked examples as a table."""
    sizes = [size(per_day, measured, assumed) for per_day in EXAMPLES]
    rows = [
        ("requests per second, mean", *(f"{one.mean:,.2f}" for one in sizes)),
        (f"requests per second, peak (x {assumed.peak:g})", *(f"{one.peak:,.2f}" for one in sizes)),
        (f"calls per second at the service (x {assumed.calls:g})", *(f"{one.calls:,.2f}" for one in sizes)),
        (f"quotas of {assumed.quota_per_second:g} calls per second", *(f"{one.quotas:,}" for one in sizes)),
        (f"in flight, a call takes {assumed.call_seconds:g} s", *(f"{one.in_flight:,}" for one in sizes)),
        ("CPU cores, busy", *(f"{one.cores:,.3f}" for one in sizes)),
        ("requests queues", *(f"{one.queues:,}" for one in sizes)),
        ("**replicas**", *(f"**{one.replicas:,}**" for one in sizes)),
        ("AMQP connections", *(f"{one.amqp_connections:,}" for one in sizes)),
        ("resident memory of all replicas, MB", *(f"{one.memory_mb:,}" for one in sizes)),
        (f"Redis for {KEPT_DAYS} days, MB", *(f"{one.redis_mb:,}" for one in sizes)),
    ]
    return _table(("requests per day", *(f"{one.per_day:,}" for one in sizes)), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    rule = ("---", *("---:" for _ in head[1:]))
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def written(text: str, measured: Measured) -> str:
    """The document with its tables as they must be."""
    for name, table in (("figures", figures(measured)), ("examples", examples(measured, Assumed()))):
        text = with_part(text, name, table, DOCUMENT)
    return text


def renew() -> None:
    """Write the document anew."""
    DOCUMENT.write_text(written(DOCUMENT.read_text(), read()))


if __name__ == "__main__":
    renew()
