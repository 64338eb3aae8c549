"""The status page as a document: what it shows, how it shortens, and that nothing in it can be run."""

import base64
import hashlib
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from worker.policy.health import MEANINGS, Health, HealthStatus
from worker.policy.status import NOTHING, Activity, Connection, FailureGroup, FaultKind, InHand, Status, duration
from worker.web.status_page import CONTENT_SECURITY_POLICY, MAX_REQUESTS_SHOWN, render_page

HOSTILE = "<script>alert(\"1\")</script><img src=x onerror=alert(2)> & 'x' </style></script>"
NOW = 1_700_000_000.0
STATUS = Status(
    version="1.2.3",
    replica="pod-7",
    now=NOW,
    started=NOW - 3_725,
    queued={"requests": 12_345, "parked": 1_998},
    in_flight=12,
    prefetch=64,
    in_hand=(InHand("project-1", "request-1", 12.4), InHand("project-2", "request-2", 0.3)),
    activity=Activity(
        figures={"failed": "3"},
        outcomes={("succeeded", "created"): 4_000, ("failed", "rejected"): 3},
        failures=(
            FailureGroup(
                *("not_found", "APIGW.0101", 1_300, NOW - 300, NOW - 90, "request-9", "project-9", "cn-north-4", True),
                error=None,
                said="APIGW.0101 The API does not exist",
            ),
            FailureGroup("invalid_request", "", 1, NOW - 100, NOW - 100, None, None, None, False, error=None),
        ),
        faults=(FaultKind("503", "ambiguous", 7, NOW - 5, "DCS.5000 busy"),),
    ),
    regions={
        "eu-west-1": {"breaker": "closed", "limit": 8},
        "cn-north-4": {
            "breaker": "open",
            "limit": 1,
            "open_for": 17.2,
            "next_probe_in": 2.0,
            "pace": 2.5,
            "quota": None,
        },
    },
    connections=(Connection("broker, consumer", "up", True), Connection("Redis", "away", False)),
    settings=(("WORKER_QUEUE", "dcs.migration.requests", "queue of `requests`"), ("WORKER_AUTH_TOKEN", "***", "way 1")),
)


class Parsed(HTMLParser):
    """The tags, the texts of every element that is shown, and the rows of every table, by the id of its section."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.inline: dict[str, str] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self._section = ""
        self._is_cell = False
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag, and that no attribute runs anything, looks like anything, or loads from elsewhere."""
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert name != "style"
            assert name not in ("src", "href") or re.fullmatch("/[a-z]+", value or "")
        self._section = dict(attrs).get("id") or self._section
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag == "td":
            self.rows[self._section][-1].append("")
        self._is_cell = tag == "td" or (self._is_cell and tag not in ("tr", "th"))

    def handle_endtag(self, tag: str) -> None:
        """Note that a cell is over."""
        self._is_cell = self._is_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self.tags and self.tags[-1] in ("style", "script") and self.cdata_elem:
            self.inline[self.tags[-1]] = data
            return
        self.texts.append(data.strip())
        if self._is_cell:
            self.rows[self._section][-1][-1] += data

    def table(self, section: str) -> list[list[str]]:
        """The cells of a section's table, without its head."""
        return [row for row in self.rows[section] if row]


def shown(status: Status = STATUS, health: Health | None = None) -> Parsed:
    """The page, parsed."""
    return Parsed(render_page(health or Health(HealthStatus.OK, "Consuming."), status))


def hostile(value: Any) -> Any:
    """The same with every text made hostile, keys included."""
    match value:
        case str():
            return HOSTILE
        case dict():
            return {hostile(key): hostile(member) for key, member in value.items()}
        case tuple():
            return tuple(hostile(member) for member in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: hostile(getattr(value, field.name)) for field in fields(value)})
    return value


def test_everything_is_escaped() -> None:
    """Whatever a sender, a broker or the service put into whichever place: the same elements, and the text itself."""
    # Keys that are made hostile become the same key, so there is one of each.
    activity = replace(STATUS.activity, outcomes={("o", "r"): 1})
    status = replace(STATUS, regions={"r": {"b": "c"}}, activity=activity)
    harmless = shown(status, Health(HealthStatus.FAILING, "x", {"x": "x"}, {"y": "x"}))
    parsed = shown(hostile(status), Health(HealthStatus.FAILING, HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}))

    assert [tag for tag in parsed.tags if tag != "code"] == [tag for tag in harmless.tags if tag != "code"]
    assert parsed.texts.count(HOSTILE) > 20


def test_policy_has_hashes_of_style_and_script() -> None:
    """The policy allows exactly the style and the script of the page."""
    inline = shown().inline
    assert inline.keys() == {"style", "script"}
    for tag, content in inline.items():
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY


def test_page_reloads_without_scripts() -> None:
    """A browser without scripts loads the page again."""
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in render_page(Health(), Status())


@pytest.mark.parametrize(
    ("status", "title"),
    [
        *((HealthStatus.OK, "Healthy"), (HealthStatus.DEGRADED, "Degraded"), (HealthStatus.FAILING, "Failing")),
        *((HealthStatus.PAUSED, "Paused"), (HealthStatus.DISCONNECTED, "Disconnected from RabbitMQ")),
        *((HealthStatus.STARTING, "Starting"), (HealthStatus.DRAINING, "Draining")),
    ],
)
def test_health_is_heading_with_colour_and_reason(status: HealthStatus, title: str) -> None:
    """Title, colour and sentence; the runbook's chapter, what else holds, the modes; which replica, for how long."""
    health = Health(status, "Why.", {status: "Why.", "degraded-too": "More."}, {"claims": "none"})
    texts = shown(health=health).texts
    assert f'<h1 class="{status.value}">{title}</h1>' in render_page(health, STATUS)
    chapter = f"runbook (deploy/runbook.md): chapter Status {status}"
    for text in (title, "Why.", chapter, "degraded-too: More.", "claims: none"):
        assert texts.count(text) >= 1
    assert "replica pod-7 (one page per replica) · dcs-worker 1.2.3, up 1 h 2 min" in texts
    assert len([text for text in texts if text == "Why."]) == 1


def test_page_says_what_every_state_means() -> None:
    """In words, for all of them."""
    assert [meaning for _, meaning in shown().table("states")] == list(MEANINGS.values())


def test_every_health_status_has_a_colour() -> None:
    """A heading without a rule of its class would have no light."""
    style = shown().inline["style"]
    assert [status for status in HealthStatus if f".{status.value}" not in style] == []


def test_tiles_show_current_figures() -> None:
    """Queues, requests in flight, and the figures of the last minute; an unknown number is no number."""
    texts = shown().texts
    for value, name in (
        *(("12,345", "backlog"), ("unknown", "in retry queues"), ("1,998", "parked")),
        *(("12 of 64", "in flight"), ("3", "failed, last minute")),
    ):
        assert texts[texts.index(name) - 1] == value
    assert "tasks followed up" not in texts
    page = render_page(Health(), replace(STATUS, queued={"follow_up": 1_234}))
    assert '<b class="">1,234</b>tasks followed up' in page


def test_trouble_in_tiles_has_colour() -> None:
    """Failed requests are red and parked ones amber, unless there are none or their number is unknown."""
    page = render_page(Health(), STATUS)
    for tile in ('<b class="bad">3</b>failed', '<b class="busy">1,998</b>parked', '<b class="">12,345</b>backlog'):
        assert tile in page
    calm = replace(STATUS, queued={}, activity=Activity(figures={"failed": "0"}))
    for tile in ('<b class="">0</b>failed', '<b class="">unknown</b>parked'):
        assert tile in render_page(Health(), calm)


def test_requests_in_flight_have_ages() -> None:
    """Age and ids of the oldest, and the number of the others."""
    assert shown().table("in-flight") == [["12 s", "request-1", "project-1"], ["0.3 s", "request-2", "project-2"]]
    assert "and 10 more" in shown().texts
    crowd = replace(STATUS, in_flight=30, in_hand=tuple(InHand("p", f"r{i}", 1.0) for i in range(30)))
    assert len(shown(crowd).table("in-flight")) == MAX_REQUESTS_SHOWN
    assert f"and {30 - MAX_REQUESTS_SHOWN} more" in shown(crowd).texts


def test_failures_are_groups_with_a_command() -> None:
    """How many, since when, the last one, what was said and what to paste; what is not known is a dash."""
    assert shown().table("failures") == [
        [
            *("not_found parked", "APIGW.0101", "1,300", "5 min 0 s ago", "1 min 30 s ago", "request-9", "project-9"),
            *("cn-north-4", "APIGW.0101 The API does not exist", "dcs-worker parked list --reason not_found"),
        ],
        ["invalid_request", NOTHING, "1", "1 min 40 s ago", "1 min 40 s ago", *[NOTHING] * 5],
    ]
    assert shown().table("faults") == [["503", "unknown", "7", "5.0 s ago", "DCS.5000 busy"]]


def test_other_tables() -> None:
    """Outcomes; regions, stopped ones first, with a column for every common fact; connections; settings."""
    parsed = shown()
    assert parsed.table("outcomes") == [["succeeded", "created", "4,000"], ["failed", "rejected", "3"]]
    assert parsed.table("regions") == [
        ["cn-north-4", "open", "1", "open for 17 s; next probe in 2.0 s; pace 2.5 calls/s"],
        ["eu-west-1", "closed", "8", NOTHING],
    ]
    assert parsed.table("connections") == [["broker, consumer", "up"], ["Redis", "away"]]
    assert parsed.table("settings")[0] == ["WORKER_QUEUE", "dcs.migration.requests", "queue of requests"]


def test_empty_tables_are_sentences() -> None:
    """A table without rows is a sentence."""
    parsed = shown(Status())
    assert parsed.rows.keys() == {"states"}
    for sentence in ("No request in flight.", "No failed request since start."):
        assert sentence in parsed.texts


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((-3.0, "0.0 s"), (0.04, "0.0 s"), (9.94, "9.9 s"), (10.0, "10 s"), (59.9, "59 s"), (60.0, "1 min 0 s")),
        *((3_599.0, "59 min 59 s"), (7_260.0, "2 h 1 min"), (90_000.0, "1 d 1 h")),
    ],
)
def test_durations_have_two_units(seconds: float, said: str) -> None:
    """As exact as an operator needs; a clock that was set back is no negative age."""
    assert duration(seconds) == said


def test_full_page_is_below_100_kb() -> None:
    """It is rendered in the event loop and fetched every few seconds."""
    busy = replace(
        STATUS,
        in_hand=STATUS.in_hand * 500,
        activity=replace(STATUS.activity, failures=STATUS.activity.failures * 10),
    )
    assert len(render_page(Health(), busy)) < 100_000


def test_facts_of_a_single_region_have_units() -> None:
    """Every fact is a column then."""
    facts = {"breaker": "open", "open_for": 17.2, "next_probe_in": 2.0, "quota": 10.0, "calls": 0}
    assert shown(replace(STATUS, regions={"r": facts})).table("regions") == [
        ["r", "open", "17 s", "2.0 s", "10 calls/s", "0", NOTHING]
    ]
