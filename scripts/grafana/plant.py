"""Rows about what the work stands on: limits, broker, replicas, processes."""

from scripts.grafana.panels import (
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
            "Of each replica and region. One replica alone: look at its node.",
            (f"max by (pod, region) ({own('breaker_state')})", "{{pod}} {{region}}"),
            states=BREAKER,
        ),
        track(
            "Consumption paused",
            "Why replicas consume nothing: DCS fails or refuses, the credentials are refused, the broker blocks, "
            "Redis is away, a suspect is processed alone, or the replica drains.",
            (f"max by (reason) ({paused})", "{{reason}}"),
            states={"0": ("no", GREEN), "1": ("paused", ORANGE)},
        ),
        graph(
            "Concurrency limit",
            "Calls that each replica may make at once: lowered by 429 and slowness, raised while it is used.",
            (own("concurrency_limit"), "{{pod}}"),
        ),
        graph(
            "Projects paused",
            "Their requests wait in retry queues: throttled, credentials refused, or quota used up.",
            (f"sum by (reason) ({own('projects_held')})", "{{reason}}"),
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
            anchor="dcsworkerbrokerblocked",
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
            "Deliveries by replica",
            "Handled, with any outcome.",
            (rate(own("deliveries_settled_total"), "pod"), "{{pod}}"),
            unit="reqps",
            stacked=True,
        ),
        track(
            "Connected",
            "Both connections of a replica to the broker work; Redis answers it, where claims are in use.",
            (f"max by (pod) ({own('broker_connected')})", "{{pod}} broker"),
            (f"max by (pod) ({own('claims_available')})", "{{pod}} Redis"),
            states={"0": ("away", RED), "1": ("connected", GREEN)},
            span=6,
        ),
        graph(
            "Versions",
            "Replicas of each version; more than one during a roll-out only.",
            (f"count by (version, python) ({own('build_info')})", "{{version}}, Python {{python}}"),
            span=4,
        ),
        graph(
            "Calls under way",
            "DCS calls that are open at the same time in all replicas, on average: autoscaling goes by it.",
            (rate(own("dcs_call_duration_seconds_sum"), "operation"), "{{operation}}"),
            stacked=True,
            span=6,
        ),
    )


def process() -> Row:
    """What it costs."""
    cpu = of_process("process_cpu_seconds_total", "[$__rate_interval]")
    return (
        graph(
            "CPU",
            "Cores; one replica can use one.",
            (cpu, "{{pod}}"),
            unit="percentunit",
            span=6,
        ),
        graph("Memory", "Resident.", (of_process("process_resident_memory_bytes"), "{{pod}}"), unit="bytes", span=6),
        graph(
            "File descriptors",
            "Open ones.",
            (of_process("process_open_fds"), "{{pod}}"),
            span=6,
        ),
        graph(
            "Uptime",
            "Falls to zero when a replica starts.",
            (f"time() - ({of_process('process_start_time_seconds')})", "{{pod}}"),
            unit="s",
            span=6,
        ),
    )
