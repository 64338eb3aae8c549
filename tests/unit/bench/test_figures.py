"""The benchmarks' own arithmetic: figures, targets, tables, picture, counts of frames and calls."""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tools.bench import load, measure, readme, text, usage
from tools.bench.competitors import Places, ours, peers
from tools.bench.cost import deviations
from tools.bench.endpoint import whole
from tools.bench.figures import Entry, Series, Step, Target, targets
from tools.bench.measure import MeasurementError, Sample, Throughput
from tools.bench.meter import Frames
from tools.bench.picture import picture

LOCK = Path(__file__).parents[3] / "tools" / "bench" / "requirements-peers.txt"
SVG = "{http://www.w3.org/2000/svg}"


def entry(name: str, cpu_us: float, p99_ms: float = 4.0) -> Entry:
    """A competitor's figures."""
    return Entry(name, f"<{name}>", cpu_us, 1e6 / cpu_us, 60.0, 2.0, p99_ms)


ENTRIES = [
    entry("worker", 400.0, 7.9),
    entry("worker-logged", 480.0),
    entry("worker-claims", 500.0),
    entry("bare-python", 500.0, 4.1),
    entry("faststream", 2_000.0),
]
BACKLOG = Series("requests waiting", (Step("1", 100.0, 10.0, 1.0), Step("2", 120.0, 9.0, 1.0)), is_bound=True)
SIZES = Series("size", (Step("1", 100.0, 10.0, 1.0), Step("2", 300.0, 3.0, 1.0)))


def found(entries: list[Entry], drift_mb: float | None = 3.5) -> dict[str, Target]:
    """The targets by what they are about."""
    return {one.what: one for one in targets(entries, [BACKLOG, SIZES], service_ms=0.1, drift_mb=drift_mb)}


def test_bare_loop_counts_as_the_mean_of_before_and_after() -> None:
    """A machine that became slower within a round."""
    joined = measure.mean(Throughput(400.0, 2_000.0, 40.0, 10), Throughput(600.0, 1_000.0, 44.0, 12))
    assert joined == Throughput(500.0, 1_500.0, 44.0, 22)


def test_targets_are_ratios_of_one_run() -> None:
    """Each promise compares the figures that it names, and is kept up to its limit and no further."""
    by_name = found(ENTRIES)
    assert by_name["CPU, to FastStream + httpx"] == Target("CPU, to FastStream + httpx", 0.2, 0.65)
    assert by_name["CPU, to the bare loop in Python"].value == 0.8
    assert by_name["CPU, info log to a file, to log level warning"].is_met is False
    assert by_name["CPU, with claims in Redis, to without"].is_met is True
    assert by_name["RSS at 64 in flight"].value == 60.0
    assert replace(by_name["RSS at 64 in flight"], value=90.0).is_met is True


def test_service_time_is_not_counted_as_latency() -> None:
    """What is compared at low load is what a competitor adds to the time of the service."""
    target = found(ENTRIES)["p99 added at low load, to the bare loop in Python"]
    assert target.value == pytest.approx((7.9 - 0.1) / (4.1 - 0.1))


def test_what_was_not_measured_is_neither_kept_nor_missed() -> None:
    """A promise about somebody who did not take part, or about a run that was not made, stays open."""
    by_name = found(ENTRIES[1:], drift_mb=None)
    open_ones = {what for what, target in by_name.items() if target.is_met is None}
    assert "CPU, to the bare loop in Python" in open_ones
    assert "RSS, change over 200,000 requests" in open_ones
    assert "RSS at 64 in flight" in open_ones


def test_growth_is_bound_where_it_was_promised() -> None:
    """The cost may not grow with the backlog; that larger requests cost more is no broken promise."""
    bound = [target for what, target in found(ENTRIES).items() if "growth" in what]
    assert [(target.what, target.is_met) for target in bound] == [("CPU, growth by requests waiting", False)]
    assert bound[0].value == pytest.approx(20.0)


def test_tables_show_every_figure() -> None:
    """A row per competitor, step and promise, in columns, with a mark for each promise."""
    assert len(text.competitors(ENTRIES).splitlines()) == 2 + len(ENTRIES)
    assert "+20%" in text.growth(BACKLOG)
    marks = [
        line.rpartition("  ")[2]
        for line in text.promises(list(found(ENTRIES, drift_mb=None).values())).splitlines()[2:]
    ]
    assert set(marks) == {"ok", "MISSED", "not measured"}
    lines = text.table(("name", "n"), [("a", "1"), ("long name", "1,000")]).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_picture_draws_what_it_says() -> None:
    """A bar per competitor, cheapest first, in proportion to its cost, its title as text and not as markup."""
    root = ElementTree.fromstring(picture(ENTRIES, "2 cores & more"))
    ground, *bars = root.findall(f"{SVG}rect")
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths == sorted(widths)
    assert widths[-1] / widths[0] == pytest.approx(5.0, rel=0.01)
    words = [element.text for element in root.findall(f"{SVG}text")]
    assert words[:4] == ["CPU time per request, µs", "2 cores & more", "<worker>", "400"]
    assert [bar.attrib["class"] for bar in bars].count("ours") == 3
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < float(ground.attrib["width"]) for bar in bars)


def test_picture_brings_its_ground_along() -> None:
    """Wherever it is shown its text stands on a ground of its own, dark for viewers that are dark."""
    light, _, dark = picture(ENTRIES, "").partition("prefers-color-scheme: dark")
    for style in (light, dark):
        assert re.search(r"text \{[^}]*fill: #[0-9a-f]{6}", style)
        assert re.search(r"\.ground \{[^}]*fill: #[0-9a-f]{6}", style)
    assert '<rect class="ground"' in dark


def test_cost_is_what_was_used_between_two_looks() -> None:
    """CPU and rate count from the first look, so that the start counts for nobody; no progress is no figure."""
    first, last = Sample(10.0, 100, 3.0, 50.0), Sample(12.0, 1_100, 3.5, 51.0)
    assert measure.between(first, last, 51.0) == Throughput(500.0, 500.0, 51.0, 1_000)
    with pytest.raises(MeasurementError):
        measure.between(first, first, 51.0)


def test_least_disturbed_round_counts() -> None:
    """Of several rounds the cheapest and the fastest is taken, of memory the middle."""
    rounds = [Throughput(500.0, 90.0, 60.0, 10), Throughput(450.0, 80.0, 70.0, 10), Throughput(600.0, 100.0, 61.0, 10)]
    assert measure.best(rounds) == Throughput(450.0, 100.0, 61.0, 30)


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_percentile_is_one_of_the_values(percent: int, value: int) -> None:
    """The percentile is the least value that so many percent do not exceed."""
    assert measure.percentile(list(range(100, 0, -1)), percent) == value
    assert measure.percentile([7.0], percent) == 7.0


def test_event_tells_when_its_request_was_made() -> None:
    """The age of an event is read from the request's identity, however the competitor wraps it."""
    event = load.event(load.request(5), {"instance_id": "b2"})
    for wrapped in (json.dumps(event), json.dumps([[event], {}]), json.dumps({"args": [event]}, separators=(",", ":"))):
        assert 0 <= load.age(wrapped.encode()) < 60


def test_pace_is_kept() -> None:
    """Paced requests come no faster than their rate."""
    started = time.monotonic_ns()
    made = [int(one["request_id"].partition("-")[2]) for one in load.paced(4, 100.0)]
    assert made[-1] - started >= 3 / 100 * 1e9 * 0.99


def test_competitors_get_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A competitor is told where broker and service are, and nothing that happens to be set here."""
    monkeypatch.setenv("WORKER_DRAIN", "1")
    places = Places("amqp://127.0.0.1:1/", "http://127.0.0.1:2")
    everybody = [*ours("redis://127.0.0.1:3/0"), *peers(Path("bare-go"))]
    for competitor in everybody:
        told = places.environment(competitor)
        assert "WORKER_DRAIN" not in told
        assert told["WORKER_AMQP_URL" if competitor.is_worker else "BENCH_AMQP_URL"] == places.amqp_url
    assert len({competitor.name for competitor in everybody}) == len(everybody) == 10


def test_cpu_time_of_a_process_is_the_systems() -> None:
    """CPU time grows with what a process does, children are found, memory is counted."""
    before = usage.cpu_seconds([os.getpid()])
    sum(range(10**6))
    assert usage.cpu_seconds([os.getpid()]) > before
    assert usage.resident_mb([os.getpid()]) > 1
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in usage.tree(os.getpid())
    finally:
        child.communicate()


def frame(kind: int, payload: bytes) -> bytes:
    """An AMQP frame on channel 1."""
    return bytes([kind, 0, 1]) + len(payload).to_bytes(4, "big") + payload + b"\xce"


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_frames_are_counted_however_they_are_cut(step: int) -> None:
    """Whole frames are counted whatever chunks they arrive in; the protocol header and heartbeats are not."""
    counts: Counter[str] = Counter()
    frames = Frames(counts, "sent", 8)
    stream = b"AMQP\x00\x00\x09\x01" + frame(1, b"abc") + frame(8, b"") + frame(3, b"x" * 100)
    for start in range(0, len(stream), step):
        frames.feed(stream[start : start + step])
    assert counts == {"sent frames": 2, "sent bytes": 11 + 108}


def test_http_call_is_whole_with_its_body() -> None:
    """The length of a call is known with its head, and includes the body."""
    head = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n"
    assert whole(head[:-1]) == 0
    assert whole(head + b"abcGET /") == len(head) + 3
    assert whole(b"GET / HTTP/1.1\r\n\r\n") == 18


def test_deviations_are_named_both_ways() -> None:
    """Too many calls are told, and too few as well: else what is expected would hold nothing any more."""
    expected = {"calls": 100.0, "http bytes": 500.0}
    assert deviations({"calls": 103.0, "http bytes": 505.0}, expected) == []
    assert deviations({"calls": 110.0, "http bytes": 500.0}, expected) == ["calls: 110 per request, expected 97 to 103"]
    assert len(deviations({"calls": 90.0, "http bytes": 400.0}, expected)) == 2
    assert deviations({"calls": 90.0, "http bytes": 500.0}, expected, is_same_python=False) == []
    assert deviations({"calls": 100.0}, expected) == ["other things are counted than calls, http bytes"]


def test_peers_are_pinned_without_a_host() -> None:
    """The peers' lock file pins by hash, and names no address and no option that would choose an index."""
    lock = LOCK.read_text()
    assert "://" not in lock
    assert not re.search(r"^\s*(-|#)(?!-hash=)", lock, re.MULTILINE)
    entries = lock.replace("\\\n", " ").splitlines()
    assert [one for one in entries if "==" not in one or "--hash=sha256:" not in one] == []
    wanted = {re.split(r"[\[;]", name)[0].strip() for name in LOCK.with_suffix(".in").read_text().splitlines()}
    assert wanted <= {one.partition("==")[0] for one in entries}


def test_performance_page_shows_what_was_measured() -> None:
    """Table, promises and picture are those of the results that are kept."""
    document = json.loads((readme.RESULTS / "bench.json").read_text())
    text_ = readme.PAGE.read_text()
    assert readme.written(text_, document) == text_
    picture_ = ElementTree.fromstring((readme.RESULTS / "bench.svg").read_text())
    words = {element.text for element in picture_.findall(f"{SVG}text")}
    assert {one["title"] for one in document["contestants"]} <= words
    assert {f"{one['cpu_us']:,.0f}" for one in document["contestants"]} <= words
