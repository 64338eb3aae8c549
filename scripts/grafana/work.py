"""Rows about requests: what comes, how it ends, how long it takes, what the service is asked, what comes again."""

from typing import Final

from scripts.grafana.health import AGE, LATE, late
from scripts.grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    REASONS,
    RED,
    YELLOW,
    Row,
    graph,
    heat,
    own,
    quantiles,
    rate,
)

OUTCOMES: Final = {"^succeeded": GREEN, "^failed": RED, "^retried": ORANGE, "^returned": PURPLE}
STATUSES: Final = {
    " 2..$": GREEN,
    "^(list|show|token) 2..$": BLUE,
    " 4..$": YELLOW,
    " 429$": ORANGE,
    " 5..$": RED,
    " [a-z]+$": PURPLE,
}


def traffic() -> Row:
    """What comes and goes."""
    return (
        graph(
            "Received",
            "Deliveries of requests. Redelivered ones come back from a replica that ended or lost its channel.",
            (rate(own("requests_received_total"), "redelivered"), "redelivered: {{redelivered}}"),
            unit="reqps",
            stacked=True,
            colours={"true$": ORANGE, "false$": BLUE},
        ),
        graph(
            "Deliveries by outcome",
            "Succeeded and failed are final; retried ones come back from a retry queue, returned ones at once.",
            (rate(own("deliveries_settled_total"), "outcome"), "{{outcome}}"),
            unit="reqps",
            stacked=True,
            colours=OUTCOMES,
        ),
        graph(
            "In flight",
            "Requests in hand, calls that may be made at once, and events that the broker confirmed.",
            (f"sum({own('in_flight_requests')})", "in flight"),
            (f"sum({own('concurrency_limit')})", "concurrency limit"),
            colours={"^in flight": BLUE, "^concurrency": GREY},
        ),
    )


def outcomes() -> Row:
    """Why requests ended as they did."""
    retried = own("deliveries_settled_total", outcome="~retried|returned")
    return (
        graph(
            "Retries by reason",
            "Deliveries that finished no request: the status of the last call, or why it was postponed at no cost.",
            (rate(retried, "outcome, reason") + " > 0", "{{outcome}} {{reason}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Parked by reason",
            "Requests parked for an operator, within the interval.",
            (f"sum by (reason) (increase({own('parked_total')}[$__rate_interval])) > 0", "{{reason}}"),
            stacked=True,
            colours=REASONS,
            anchor="dcsworkerparked",
        ),
        graph(
            "Time parked",
            "Since the parked queue was last seen empty; a replica that starts begins anew.",
            (f"max by (job) ({own('parked_since_seconds')})", "{{job}}"),
            unit="s",
            steps=((86400, ORANGE),),
            anchor="dcsworkerparked",
        ),
    )


def latency() -> Row:
    """How long it takes."""
    burn = tuple((round(pace * LATE, 3), colour) for pace, colour in ((1, YELLOW), (6, ORANGE), (14.4, RED)))
    return (
        heat(
            "Age of requests",
            "From sent (else first received) to final event, waits in queues included.",
            AGE,
        ),
        heat(
            "Duration of deliveries",
            "From received to acknowledged: one delivery, waits in hand included.",
            "request_duration_seconds",
        ),
        graph(
            "Late",
            "Share of requests that took more than 2 minutes. Lines: 1, 6 and 14.4 times the month's budget.",
            (late("5m"), "5 minutes"),
            (late("1h"), "1 hour"),
            unit="percentunit",
            steps=burn,
            room=2 * LATE,
            anchor="dcsworkerrequestslate",
        ),
        graph("Age", "From sent (else first received) to final event.", *quantiles(AGE), unit="s", span=8),
        graph("Duration", "From received to acknowledged.", *quantiles("request_duration_seconds"), unit="s", span=8),
        graph(
            "Publishing events",
            "From publish to the broker's confirm, which the acknowledgement waits for.",
            *quantiles("event_publish_duration_seconds"),
            unit="s",
            span=8,
        ),
    )


def calls() -> Row:
    """What the service is asked, and answers."""
    return (
        graph(
            "DCS calls, by status",
            "A number is an HTTP status; a word, how a call ended without an answer.",
            (rate(own("dcs_calls_total"), "operation, status"), "{{operation}} {{status}}"),
            unit="reqps",
            stacked=True,
            colours=STATUSES,
            span=12,
            anchor="dcsworkerbreakeropen",
        ),
        graph(
            "DCS calls not answered 2xx, by region",
            "Share of the calls. One region alone: its endpoint, its quota, or DCS there.",
            (
                f"sum by (region) (rate({own('dcs_calls_total', status='!~2..')}[$__rate_interval])) "
                f"/ sum by (region) (rate({own('dcs_calls_total')}[$__rate_interval]))",
                "{{region}}",
            ),
            unit="percentunit",
            span=12,
            room=1,
            anchor="dcsworkerrequestsfailing",
        ),
        heat(
            "Duration of creates",
            "Calls that create a task.",
            "dcs_call_duration_seconds",
            span=12,
            operation="create",
        ),
        graph(
            "DCS call latency p99",
            "The 99th percentile of calls, by operation.",
            (
                "histogram_quantile(0.99, " + rate(own("dcs_call_duration_seconds_bucket"), "operation, le") + ") >= 0",
                "{{operation}}",
            ),
            unit="s",
            span=12,
        ),
    )


def retries() -> Row:
    """What comes again."""
    return (
        graph(
            "Waiting, by queue",
            "Ready requests in the queue, in all retry queues, and parked, as the replicas count them.",
            (f"sum by (queue) (max by (namespace, job, queue) ({own('queue_messages')}))", "{{queue}}"),
            stacked=True,
            span=12,
        ),
        graph(
            "Lookups",
            "A task that may exist is looked for before anything is created: found ones are adopted.",
            (rate(own("lookups_total"), "result"), "{{result}}"),
            unit="ops",
            stacked=True,
            colours={"^found": GREEN, "^absent": BLUE, "^several": PURPLE, "^failed": RED},
            span=12,
            anchor="dcsworkerunresolved",
        ),
    )
