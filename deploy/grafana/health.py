"""The top of the dashboard, which says in five seconds whether all is well."""

from typing import Final

from deploy.grafana.panels import GREEN, ORANGE, RED, YELLOW, Row, light, own, queue, share

LATE: Final = 0.01
"""The share of requests that may take longer than OBJECTIVE, which is a bucket's bound in seconds."""
OBJECTIVE: Final = "120.0"
ALERTS: Final = "|".join(
    (
        *("NothingConsumed", "BreakerOpen", "ParkedGrowing", "Unresolved", "CredentialsRefused"),
        *("RequestsLate", "RequestsUnroutable", "BrokerBlocked", "ClaimsAway", "Poison"),
    )
)
"""The alerts of this project, as a pattern."""
AGE: Final = "request_age_seconds"


def late(window: str) -> str:
    """The share of requests that ended later than the objective."""
    in_time, ended = own(f"{AGE}_bucket", le=OBJECTIVE), own(f"{AGE}_count")
    return f"1 - ({share(f'sum(rate({in_time}[{window}]))', f'sum(rate({ended}[{window}]))')})"


def health() -> Row:
    """In five seconds: is all well?"""
    consuming = f"{own('broker_connected')} == 1 unless on (job, instance) {own('consumption_paused')} == 1"
    succeeded = own("requests_completed_total", outcome="succeeded")
    ended = own("requests_completed_total", outcome="~succeeded|failed")
    doubtful = own("parked_total", reason="~unresolved|poison")
    return (
        light(
            "Alerts",
            "Alerts of this project that fire now.",
            f'count(ALERTS{{alertstate="firing", alertname=~"{ALERTS}"}}) or vector(0)',
            "runbook",
        ),
        light(
            "Replicas consuming",
            "Connected to the broker and not paused, of those that are scraped.",
            share(f"(count({consuming}) or vector(0))", f"count({own('build_info')})"),
            "nothing-consumed",
            unit="percentunit",
            steps=((0, RED), (0.01, ORANGE), (0.999, GREEN)),
            none="no replica",
        ),
        light(
            "Late (1 h)",
            "Requests that took more than 2 minutes from first received to final event. The objective allows 1 %.",
            late("1h"),
            "requests-late",
            unit="percentunit",
            steps=((LATE, ORANGE), (round(14.4 * LATE, 3), RED)),
            decimals=1,
            none="none ended",
        ),
        light(
            "Succeeded (15 min)",
            "Of the requests that ended, by whoever's fault the others failed.",
            share(f"sum(increase({succeeded}[15m]))", f"sum(increase({ended}[15m]))"),
            "parked-growing",
            unit="percentunit",
            steps=((0, RED), (0.9, ORANGE), (0.99, GREEN)),
            decimals=1,
            none="none ended",
        ),
        light(
            "Waiting",
            "Requests ready in the queue; those in the retry queues not counted.",
            f"sum(max by (vhost, queue) ({queue('messages_ready')}))",
            "requests-late",
            steps=((1000, ORANGE), (10000, RED)),
            line=True,
            none="no broker",
        ),
        light(
            "Parked",
            "Requests that wait for a person, in the parked queue.",
            f"sum(max by (vhost, queue) ({queue('messages_ready', '[.]parked')}))",
            "parked-growing",
            steps=((1, ORANGE), (100, RED)),
            line=True,
            none="no broker",
        ),
        light(
            "DCS",
            "The worst breaker of any replica and region: closed, half-open, open.",
            f"max({own('breaker_state', region='~$region')})",
            "breaker-open",
            states={"0": ("healthy", GREEN), "1": ("probed", YELLOW), "2": ("failing", RED)},
        ),
        light(
            "Broker",
            "As the worst replica sees it.",
            f"2 * max({own('broker_blocked')}) > 0 or 1 - min({own('broker_connected')})",
            "broker-blocked",
            states={"0": ("connected", GREEN), "1": ("away", RED), "2": ("blocks", RED)},
        ),
        light(
            "Claims",
            "Redis, as the worst replica sees it.",
            f"min({own('claims_available')})",
            "claims-away",
            steps=((0, RED), (1, GREEN)),
            states={"0": ("away", ORANGE), "1": ("available", GREEN)},
            none="not in use",
        ),
        light(
            "Credentials",
            "Refused, or the endpoint of every region is: no call is possible, and consumption is paused.",
            f"max({own('consumption_paused', reason='~credentials|held')})",
            "credentials-refused",
            states={"0": ("accepted", GREEN), "1": ("refused", RED)},
        ),
        light(
            "Unresolved, poison (1 d)",
            "Requests of which nobody knows whether their task exists, or that took workers down.",
            f"sum(increase({doubtful}[1d]))",
            "unresolved",
        ),
        light(
            "Throttled (5 min)",
            "Share of the calls of DCS that were answered with 429.",
            share(
                f"(sum(rate({own('dcs_calls_total', status='429')}[5m])) or vector(0))",
                f"sum(rate({own('dcs_calls_total')}[5m]))",
            ),
            "requests-late",
            unit="percentunit",
            steps=((0.05, ORANGE), (0.5, RED)),
            none="no calls",
        ),
    )
