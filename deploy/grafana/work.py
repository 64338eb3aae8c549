"""Rows about requests: what comes, how it ends, how long it takes, what the service is asked, what comes again."""

from typing import Final

from deploy.grafana.health import AGE, LATE, late
from deploy.grafana.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    YELLOW,
    Row,
    by_place,
    graph,
    heat,
    own,
    quantiles,
    queue,
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
            "Over, by outcome",
            "Succeeded and failed are final; retried ones come back from a retry queue, returned ones at once.",
            (rate(own("requests_completed_total"), "outcome"), "{{outcome}}"),
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
    final = own("requests_completed_total", outcome="~succeeded|failed")
    aside = own("requests_completed_total", outcome="~retried|returned")
    return (
        graph(
            "Final, by reason",
            "Created and adopted are successes: an adopted task was found to exist from an earlier attempt.",
            (rate(final, "reason") + " > 0", "{{reason}}"),
            unit="reqps",
            stacked=True,
            colours={"^created": GREEN, "^adopted": BLUE},
        ),
        graph(
            "Not final, by reason",
            "A status or an ending of the last call; or why a request stepped aside, at no cost.",
            (rate(aside, "outcome, reason") + " > 0", "{{outcome}} {{reason}}"),
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Parked, by reason",
            "Requests put aside for a person, within the interval.",
            (f"sum by (reason) (increase({own('parked_total')}[$__rate_interval])) > 0", "{{reason}}"),
            stacked=True,
            colours={"^unresolved": RED, "^poison": PURPLE, "^exhausted": ORANGE},
            anchor="parked-growing",
        ),
    )


def latency() -> Row:
    """How long it takes."""
    burn = tuple((round(pace * LATE, 3), colour) for pace, colour in ((1, YELLOW), (6, ORANGE), (14.4, RED)))
    return (
        heat(
            "Age of requests",
            "From first received to final event, waits in queues included.",
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
            anchor="requests-late",
        ),
        graph("Age", "From first received to final event.", *quantiles(AGE), unit="s", span=8),
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
            anchor="breaker-open",
        ),
        heat("Duration of creates", "Calls that create a task.", "dcs_call_duration_seconds", operation="create"),
        graph(
            "Duration, slowest of a hundred",
            "The 99th percentile of calls, by operation.",
            (
                "histogram_quantile(0.99, " + rate(own("dcs_call_duration_seconds_bucket"), "operation, le") + ") >= 0",
                "{{operation}}",
            ),
            unit="s",
        ),
    )


def retries() -> Row:
    """What comes again."""
    return (
        graph(
            "Waiting in the retry schedule",
            "Requests in the retry queue of each place, which come back after its delay.",
            (by_place(queue("messages", "[.]retry[.].+")), "{{place}}"),
            stacked=True,
        ),
        graph(
            "Looks",
            "A task that may exist is looked for before anything is created: found ones are adopted.",
            (rate(own("lookups_total"), "result"), "{{result}}"),
            unit="ops",
            stacked=True,
            colours={"^found": BLUE, "^absent": GREEN, "^several": PURPLE, "^failed": RED},
            anchor="unresolved",
        ),
        graph(
            "Retried, by reason",
            "Copies put into the retry schedule.",
            (rate(own("requests_completed_total", outcome="retried"), "reason") + " > 0", "{{reason}}"),
            unit="reqps",
            stacked=True,
        ),
    )
