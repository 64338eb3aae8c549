"""Metrics: the promised names, types and labels, read back by Prometheus' own parsers."""

import platform
from collections.abc import Iterable
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from worker.observe.metrics import (
    AGE_BUCKETS,
    CALL_BUCKETS,
    DURATION_BUCKETS,
    HEALTH_STATUSES,
    NAMESPACE,
    PUBLISH_BUCKETS,
    Metrics,
)
from worker.policy.status import HeldBack
from worker.policy.throttle.project_hold import REASONS

REGIONS = ("cn-north-4", "eu-west-0")
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMISED = {
    "requests_received_total": ("counter", {"redelivered"}),
    "deliveries_settled_total": ("counter", {"outcome", "reason"}),
    "requests_finished_total": ("counter", {"outcome", "reason"}),
    "health_status": ("gauge", {"status"}),
    "queue_messages": ("gauge", {"queue"}),
    "oldest_request_age_seconds": ("gauge", set()),
    "parked_since_seconds": ("gauge", set()),
    "request_duration_seconds": ("histogram", {"outcome"}),
    "request_age_seconds": ("histogram", {"outcome"}),
    "in_flight_requests": ("gauge", set()),
    "concurrency_limit": ("gauge", set()),
    "dcs_calls_total": ("counter", {"region", "operation", "status"}),
    "dcs_call_duration_seconds": ("histogram", {"operation"}),
    "events_published_total": ("counter", {"type"}),
    "event_publish_duration_seconds": ("histogram", {"type"}),
    "parked_total": ("counter", {"reason"}),
    "breaker_state": ("gauge", {"region"}),
    "broker_connected": ("gauge", set()),
    "broker_blocked": ("gauge", set()),
    "claims_available": ("gauge", set()),
    "lookups_total": ("counter", {"result"}),
    "follow_ups_total": ("counter", {"result"}),
    "build_info": ("gauge", {"version", "python"}),
}
ADDED = {  # what alerts and dashboard need beside them
    "claims_memory_used_ratio": ("gauge", set()),
    "call_rate_limit": ("gauge", {"region"}),
    "projects_held": ("gauge", {"region", "reason"}),
    "consumption_paused": ("gauge", {"reason"}),
    "claims_records_doubted_total": ("counter", set()),
    "marker_kept": ("gauge", {"region"}),
}


def made(with_claims: bool = True) -> Metrics:
    """Metrics of a worker with two regions, after one call of the service, with something waiting everywhere."""
    metrics = Metrics("1.2.3", REGIONS, with_claims)
    metrics.dcs_calls["cn-north-4", "create", "200"].inc()
    metrics.marker_kept.labels("cn-north-4").set(1)
    metrics.set_waiting({"requests": 3, "retry": 2, "parked": 1}, parked_seconds=60.0, oldest_seconds=5.0)
    metrics.claims_memory_used.value = 0.5 if with_claims else None
    return metrics


def families(metrics: Metrics) -> dict[str, Metric]:
    """The families that a scrape in the plain format reads, by name; counters with `_total`."""
    body, _ = metrics.render("")
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in read_text(body.decode())}


def ours(found: Iterable[str]) -> set[str]:
    """Those of our namespace, without it."""
    return {name.removeprefix(f"{NAMESPACE}_") for name in found if name.startswith(NAMESPACE)}


def values(found: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The values of our series."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in found
        for sample in family.samples
        if family.name.startswith(NAMESPACE)
    }


def test_exactly_the_promised_metrics_exist() -> None:
    """Names, types and labels are those promised to dashboards and alerts, no more and no fewer."""
    found = families(made())

    assert ours(found) == PROMISED.keys() | ADDED.keys()
    for name, (type_, labels) in (PROMISED | ADDED).items():
        family = found[f"{NAMESPACE}_{name}"]
        assert family.type == type_, name
        assert {frozenset(sample.labels.keys() - {"le"}) for sample in family.samples} == {frozenset(labels)}, name


def test_openmetrics_equals_plain_format() -> None:
    """OpenMetrics is sent on request, and has the same series with the same values."""
    metrics = made()
    body, media_type = metrics.render(OPENMETRICS)

    opened = read_openmetrics(body.decode())  # type: ignore[no-untyped-call]
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    assert values(opened) == values(families(metrics).values()) != {}


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "application/openmetrics-text; version=x.y", ";;,=,"])
def test_other_accept_headers_get_plain_format(accept: str) -> None:
    """An Accept header without an OpenMetrics version gets the plain format."""
    body, media_type = made().render(accept)

    assert media_type == "text/plain; version=0.0.4; charset=utf-8"
    assert ours(family.name for family in read_text(body.decode()))


@given(st.one_of(st.text(), st.from_regex(r"application/openmetrics-text; ?version=.{0,9}", fullmatch=True)))
def test_any_accept_header_can_be_scraped(accept: str) -> None:
    """A client may write anything into its Accept header."""
    body, media_type = METRICS.render(accept)

    assert body
    assert media_type.startswith(("text/plain", "application/openmetrics-text"))


METRICS = made()


def test_known_series_exist_from_the_start() -> None:
    """A series that begins at 0 shows its first increase; one that appears at 1 does not."""
    found = families(Metrics("1.2.3", REGIONS, True))

    def series(name: str) -> dict[tuple[str, ...], float]:
        return {
            tuple(sample.labels.values()): sample.value
            for sample in found[f"{NAMESPACE}_{name}"].samples
            if not sample.name.endswith("_bucket")
        }

    assert series("breaker_state") == {("cn-north-4",): 0.0, ("eu-west-0",): 0.0}
    assert series("lookups_total") == dict.fromkeys([("found",), ("absent",), ("several",), ("failed",)], 0.0)
    assert series("requests_received_total") == {("false",): 0.0, ("true",): 0.0}
    assert series("dcs_calls_total")["create", "cn-north-4", "401"] == 0.0
    assert series("deliveries_settled_total")["failed", "unresolved"] == 0.0
    assert series("requests_finished_total")["succeeded", "adopted"] == 0.0
    assert {outcome for outcome, _ in series("requests_finished_total")} == {"succeeded", "failed"}
    assert series("parked_total")["poison",] == 0.0
    assert series("request_age_seconds").keys() == {("succeeded",), ("failed",)}
    assert series("build_info") == {(platform.python_version(), "1.2.3"): 1.0}


def test_unknown_label_values_become_other() -> None:
    """Values outside the known sets are counted together as `other`."""
    metrics = made()
    for number in range(1000):
        metrics.deliveries_settled["failed", f"reason {number}"].inc()
        metrics.dcs_calls[f"region {number}", f"operation {number}", str(number + 600)].inc()

    found = families(metrics)
    other = [s for s in found[f"{NAMESPACE}_deliveries_settled_total"].samples if s.labels["reason"] == "other"]
    assert [(sample.labels["outcome"], sample.value) for sample in other] == [("failed", 1000.0)]
    calls = {tuple(s.labels.values()): s.value for s in found[f"{NAMESPACE}_dcs_calls_total"].samples if s.value}
    assert calls == {("create", "cn-north-4", "200"): 1.0, ("other", "other", "other"): 1000.0}


def test_claims_metric_has_value_only_with_claims() -> None:
    """Without claims the metric is described, but has no value that an alert could misread."""
    found = families(made(with_claims=False))
    assert ours(found) == PROMISED.keys() | ADDED.keys()
    assert not found[f"{NAMESPACE}_claims_available"].samples
    assert not found[f"{NAMESPACE}_claims_memory_used_ratio"].samples


def test_process_metrics_are_included() -> None:
    """Memory, descriptors, Python and garbage collector are in the same registry, each once."""
    found = families(made())

    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= found.keys()
    assert "python_gc_collections_total" in found
    assert not [name for name in found if name.endswith("_created")]


def test_two_registries_are_independent() -> None:
    """Two workers in one process count separately."""
    one, other = made(), made()
    one.lookups["found"].inc()

    counts = [
        {sample.labels["result"]: sample.value for sample in families(m)[f"{NAMESPACE}_lookups_total"].samples}
        for m in (one, other)
    ]
    assert [count["found"] for count in counts] == [1.0, 0.0]


@pytest.mark.parametrize("bounds", [CALL_BUCKETS, PUBLISH_BUCKETS, DURATION_BUCKETS, AGE_BUCKETS])
def test_buckets_cover_their_range(bounds: tuple[float, ...]) -> None:
    """Bounds rise by at most a factor of six, so that no quantile is a guess over a decade."""
    steps = [upper / lower for lower, upper in pairwise(bounds)]

    assert min(steps) > 1
    assert max(steps) <= 6


def test_throttle_metrics_are_set() -> None:
    """The call rate, and the number of paused projects."""
    metrics = made()
    held = HeldBack(25.0, {"throttled": 2, "quota": 1})
    metrics.set_held_back({REGIONS[0]: held, REGIONS[1]: HeldBack()})
    found = values(families(metrics).values())

    def told(name: str, **labels: str) -> float:
        return found[f"{NAMESPACE}_{name}", frozenset(labels.items())]

    assert [told("call_rate_limit", region=region) for region in REGIONS] == [25.0, inf]
    assert [told("projects_held", region=REGIONS[0], reason=reason) for reason in REASONS] == [2, 0, 1]
    metrics.set_held_back({region: HeldBack() for region in REGIONS})
    found = values(families(metrics).values())
    assert told("projects_held", region=REGIONS[0], reason="quota") == 0


def test_exactly_one_health_status_is_1() -> None:
    """All states have a series from the start, in which the worker is starting."""
    metrics = Metrics("1.2.3", REGIONS, with_claims=False)
    for status in ("starting", "failing", "ok"):
        metrics.set_health(status)
        samples = families(metrics)[f"{NAMESPACE}_health_status"].samples
        assert {sample.labels["status"] for sample in samples} == set(HEALTH_STATUSES)
        assert [sample.labels["status"] for sample in samples if sample.value] == [status]
    assert set(HEALTH_STATUSES) == {"ok", "degraded", "failing", "paused", "disconnected", "starting", "draining"}


def test_unknown_counts_are_absent() -> None:
    """An unknown number is not 0: its series is gone, and comes back."""
    metrics = made()
    metrics.set_waiting({"requests": 4}, parked_seconds=None, oldest_seconds=None)
    found = families(metrics)
    assert [(s.labels["queue"], s.value) for s in found[f"{NAMESPACE}_queue_messages"].samples] == [("requests", 4.0)]
    assert not found[f"{NAMESPACE}_parked_since_seconds"].samples
    assert not found[f"{NAMESPACE}_oldest_request_age_seconds"].samples

    metrics.set_waiting({}, parked_seconds=0.0, oldest_seconds=7.5)
    found = families(metrics)
    assert not found[f"{NAMESPACE}_queue_messages"].samples
    assert [sample.value for sample in found[f"{NAMESPACE}_parked_since_seconds"].samples] == [0.0]
    assert [sample.value for sample in found[f"{NAMESPACE}_oldest_request_age_seconds"].samples] == [7.5]


def test_known_label_value_has_one_child() -> None:
    """A known label value leads to the same child each time; an unknown one is not stored."""
    metrics = made()
    known = metrics.dcs_calls["cn-north-4", "create", "200"]
    metrics.dcs_calls["cn-north-4", "create", "unknown"].inc()

    assert metrics.dcs_calls["cn-north-4", "create", "200"] is known
    assert "unknown" not in {status for _, _, status in metrics.dcs_calls}


def test_bucket_includes_its_bound() -> None:
    """A value equal to a bound is counted in that bucket; a value above all bounds only in the last."""
    metrics = made()
    for seconds in (0.005, 0.0051, 1e9):
        metrics.dcs_call_duration["create"].observe(seconds)

    samples = families(metrics)[f"{NAMESPACE}_dcs_call_duration_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if "le" in s.labels and s.labels["operation"] == "create"}
    assert (buckets["0.005"], buckets["0.01"], buckets["60.0"], buckets["+Inf"]) == (1.0, 2.0, 2.0, 3.0)
