"""The top of the dashboard, which says in five seconds whether all is well, and if not, what fails and since when."""

from typing import Final

from scripts.grafana.panels import (
    GREEN,
    GREY,
    ORANGE,
    REASONS,
    RED,
    YELLOW,
    Row,
    States,
    graph,
    light,
    own,
    share,
    track,
)

LATE: Final = 0.01
"""The share of requests that may take longer than OBJECTIVE, which is a bucket's bound in seconds."""
OBJECTIVE: Final = "120.0"
AGE: Final = "request_age_seconds"
FIRING: Final = 'ALERTS{alertstate="firing", service="dcs-worker"'
"""The alerts of this project that fire; those of the broker's queues have no job."""

HEALTH: Final[States] = {
    "0": ("ok", GREEN),
    "1": ("degraded", YELLOW),
    "2": ("paused", ORANGE),
    "3": ("starting", GREY),
    "4": ("draining", GREY),
    "5": ("failing", RED),
    "6": ("disconnected", RED),
}


def late(window: str) -> str:
    """The share of requests that ended later than the objective."""
    in_time, ended = own(f"{AGE}_bucket", le=OBJECTIVE), own(f"{AGE}_count")
    return f"1 - ({share(f'sum(rate({in_time}[{window}]))', f'sum(rate({ended}[{window}]))')})"


def _health() -> str:
    """The number in HEALTH of each replica's status."""
    statuses = (f"{number} * {own('health_status', status=name)}" for number, (name, _) in HEALTH.items())
    return f"max by (pod) ({' or '.join(statuses)})"


def _per_job(series: str) -> str:
    """What the replicas of one job count alike, summed up over the jobs."""
    return f"sum(max by (namespace, job) ({series}))"


def health() -> Row:
    """In five seconds: is all well?"""
    firing = f'{FIRING}, job=~"$job|"}}'
    calls = own("dcs_calls_total")
    return (
        track(
            "Health of replicas",
            "As /readyz of each replica says: its sentence names the error, and what to do.",
            (_health(), "{{pod}}"),
            states=HEALTH,
        ),
        track(
            "Alerts",
            "Alerts of this project that fire, and since when. What to do stands in the runbook under their names.",
            (
                f"max by (alertname) ({firing}) "
                f'or label_replace(absent({firing}) - 1, "alertname", "no alert", "", "")',
                "{{alertname}}",
            ),
            states={"0": ("quiet", GREEN), "1": ("firing", RED)},
        ),
        graph(
            "Finished, by reason",
            "Final outcomes without repeats. Green: a task exists. Red and purple: failed.",
            (f"sum by (reason) (rate({own('requests_finished_total')}[$__rate_interval])) > 0", "{{reason}}"),
            unit="reqps",
            stacked=True,
            colours=REASONS,
        ),
        light(
            "Waiting in the queue",
            "Requests ready in the requests queue, as the broker counts them.",
            _per_job(own("queue_messages", queue="requests")),
            "dcsworkerbacklogslow",
            steps=((1000, ORANGE), (10000, RED)),
            line=True,
            none="unknown",
        ),
        light(
            "Waiting for a retry",
            "Requests in all retry queues.",
            _per_job(own("queue_messages", queue="retry")),
            "dcsworkerbacklogslow",
            steps=((1000, ORANGE), (10000, RED)),
            line=True,
            none="unknown",
        ),
        light(
            "Oldest request in flight",
            "From when it was sent (else first received).",
            f"max({own('oldest_request_age_seconds')})",
            "dcsworkerrequestslate",
            unit="s",
            steps=((float(OBJECTIVE), ORANGE), (1800, RED)),
            line=True,
            none="none",
        ),
        light(
            "Parked",
            "Requests that need an operator. The largest count of 15 minutes: while a command reads them none is.",
            _per_job(f"max_over_time({own('queue_messages', queue='parked')}[15m])"),
            "dcsworkerparked",
            steps=((1, ORANGE), (100, RED)),
            line=True,
            none="unknown",
        ),
        light(
            "Late (1 h)",
            "Requests that took more than 2 minutes from sent to final event. The objective allows 1 %.",
            late("1h"),
            "dcsworkerrequestslate",
            unit="percentunit",
            steps=((LATE, ORANGE), (round(14.4 * LATE, 3), RED)),
            decimals=1,
            none="none finished",
        ),
        light(
            "DCS calls OK (5 min)",
            "Calls answered 2xx. Throttling, refused credentials, a wrong endpoint and an outage all lower it.",
            share(f"(sum(rate({own('dcs_calls_total', status='~2..')}[5m])) or vector(0))", f"sum(rate({calls}[5m]))"),
            "dcsworkerrequestsfailing",
            unit="percentunit",
            steps=((0, RED), (0.5, ORANGE), (0.9, GREEN)),
            decimals=0,
            none="no calls",
        ),
    )
