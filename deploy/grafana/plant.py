"""Rows about what the work stands on: limits, broker, replicas, processes."""

from deploy.grafana.panels import (
    BLUE,
    BREAKER,
    GREEN,
    ORANGE,
    RED,
    Row,
    by_place,
    graph,
    of_process,
    own,
    queue,
    rate,
    track,
)


def limits() -> Row:
    """What holds calls back."""
    paused = own("consumption_paused")
    return (
        track(
            "Breaker",
            "Of each replica and region. One replica alone has a trouble of its own.",
            (f"max by (instance, region) ({own('breaker_state', region='~$region')})", "{{instance}} {{region}}"),
            states=BREAKER,
        ),
        track(
            "Consumption paused",
            "Why replicas take nothing in: the service is sick, the credentials are refused, the broker blocks, "
            "a suspect is worked on alone, or the replica drains.",
            (f"max by (reason) ({paused})", "{{reason}}"),
            states={"0": ("no", GREEN), "1": ("paused", ORANGE)},
        ),
        graph(
            "Concurrency limit",
            "Calls that each replica may make at once: lowered by 429 and slowness, raised while it is used.",
            (own("concurrency_limit"), "{{instance}}"),
        ),
        graph(
            "Projects held",
            "Their requests step aside into the retry queues: throttled, credentials refused, or quota used up.",
            (f"sum by (why) ({own('projects_held', region='~$region')})", "{{why}}"),
            stacked=True,
            span=24,
        ),
    )


def broker() -> Row:
    """What RabbitMQ says, by its plugin rabbitmq_prometheus."""
    alarms = " or ".join(
        f'label_replace(max(rabbitmq_alarms_{alarm}), "alarm", "{name}", "", "")'
        for alarm, name in (("memory_used_watermark", "memory"), ("free_disk_space_watermark", "disk"))
    )
    return (
        graph(
            "Ready, by queue",
            "Messages that wait to be delivered: requests, retry schedule, parked.",
            (by_place(queue("messages_ready", "([.](parked|retry[.].+))?")), "{{place}}"),
            stacked=True,
            anchor="broker-blocked",
        ),
        graph(
            "Requests queue",
            "Delivered and not acknowledged yet, and consumers; each replica is one.",
            (f"sum({queue('messages_unacked')})", "unacknowledged"),
            (f"sum({queue('consumers')})", "consumers"),
        ),
        graph(
            "Events",
            "Confirmed by the broker.",
            (rate(own("events_published_total"), "type"), "{{type}}"),
            unit="reqps",
            stacked=True,
            colours={"succeeded": GREEN, "failed": RED},
        ),
        track(
            "Alarms",
            "While one is on, the broker takes no publishes.",
            (alarms, "{{alarm}}"),
            states={"0": ("off", GREEN), "1": ("on", RED)},
        ),
        graph(
            "Memory of the broker",
            "At the limit the broker blocks publishing.",
            ("sum by (instance) (rabbitmq_process_resident_memory_bytes)", "{{instance}}"),
            ("sum by (instance) (rabbitmq_resident_memory_limit_bytes)", "{{instance}} limit"),
            unit="bytes",
            colours={"limit$": RED},
        ),
        graph(
            "Dead-lettered",
            "Expired: a delay of the retry schedule is over. Delivery limit: the net below the worker's own count.",
            (
                "sum(rate(rabbitmq_global_messages_dead_lettered_expired_total[$__rate_interval]))",
                "expired",
            ),
            (
                "sum(rate(rabbitmq_global_messages_dead_lettered_delivery_limit_total[$__rate_interval]))",
                "delivery limit",
            ),
            unit="ops",
            colours={"^expired": BLUE, "^delivery": RED},
        ),
    )


def replicas() -> Row:
    """Who works."""
    return (
        graph(
            "Work, by replica",
            "Deliveries that are over.",
            (rate(own("requests_completed_total"), "instance"), "{{instance}}"),
            unit="reqps",
            stacked=True,
        ),
        track(
            "Connected",
            "Both connections of a replica to the broker work; Redis answers it, where claims are in use.",
            (f"max by (instance) ({own('broker_connected')})", "{{instance}} broker"),
            (f"max by (instance) ({own('claims_available')})", "{{instance}} Redis"),
            states={"0": ("away", RED), "1": ("connected", GREEN)},
            span=8,
        ),
        graph(
            "Versions",
            "Replicas of each version; more than one during a roll-out only.",
            (f"count by (version, python) ({own('build_info')})", "{{version}}, Python {{python}}"),
            stacked=True,
        ),
        graph(
            "Calls under way",
            "DCS calls that are open at the same time in all replicas, on average: autoscaling goes by it.",
            (rate(own("dcs_call_duration_seconds_sum"), "operation"), "{{operation}}"),
            stacked=True,
        ),
    )


def process() -> Row:
    """What it costs."""
    cpu = 'rate(process_cpu_seconds_total{instance=~"$replica"}[$__rate_interval])'
    return (
        graph(
            "CPU",
            "Cores; one replica can use one.",
            (f"{cpu} and on (job, instance) dcs_worker_build_info", "{{instance}}"),
            unit="percentunit",
            span=6,
        ),
        graph(
            "Memory", "Resident.", (of_process("process_resident_memory_bytes"), "{{instance}}"), unit="bytes", span=6
        ),
        graph(
            "File descriptors",
            "Open ones.",
            (of_process("process_open_fds"), "{{instance}}"),
            span=6,
        ),
        graph(
            "Uptime",
            "Falls to zero when a replica starts.",
            (f"time() - ({of_process('process_start_time_seconds')})", "{{instance}}"),
            unit="s",
            span=6,
        ),
    )
