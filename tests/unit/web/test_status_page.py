"""The status page as a document: what it shows, how it shortens, and that nothing in it can be run."""

import base64
import hashlib
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from worker.policy.status import (
    NOTHING,
    Activity,
    Connection,
    Failure,
    FaultKind,
    InHand,
    Readiness,
    Status,
)
from worker.web.status_page import CONTENT_SECURITY_POLICY, MAX_REQUESTS_SHOWN, duration, render_page

HOSTILE = "<script>alert(\"1\")</script><img src=x onerror=alert(2)> & 'x' </style></script>"
NOW = 1_700_000_000.0
STATUS = Status(
    version="1.2.3",
    state="consuming",
    now=NOW,
    started=NOW - 3_725,
    backlog=12_345,
    in_flight=12,
    prefetch=64,
    in_hand=(InHand("project-1", "request-1", 12.4), InHand("project-2", "request-2", 0.3)),
    activity=Activity(
        figures={"failed": "3"},
        outcomes={("succeeded", "created"): 4_000, ("failed", "rejected"): 3},
        failures=(
            Failure(NOW - 90, "unresolved", "request-9", "project-9", "cn-north-4", 2, parked=True, said="504: late"),
            Failure(NOW - 100, "invalid_request", None, None, None, 0, parked=True, said=""),
        ),
        faults=(FaultKind("503", "ambiguous", 7, NOW - 5, "DCS.5000 busy"),),
    ),
    regions={"cn-north-4": {"breaker": "open", "open_for": 5, "pace": 2.5}, "eu-west-1": {"breaker": "closed"}},
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


def shown(status: Status = STATUS, readiness: Readiness | None = None) -> Parsed:
    """The page, parsed."""
    return Parsed(render_page(readiness or Readiness(True, "consuming"), status))


def hostile(value: Any) -> Any:
    """The same with every text made hostile, keys included; not the few that are ours."""
    match value:
        case str():
            return HOSTILE
        case dict():
            return {hostile(key): hostile(member) for key, member in value.items()}
        case tuple():
            return tuple(hostile(member) for member in value)
    if is_dataclass(value) and not isinstance(value, type):
        ours = {"state"} if isinstance(value, Status) else set()
        changed = {field.name: hostile(getattr(value, field.name)) for field in fields(value) if field.name not in ours}
        return replace(value, **changed)
    return value


def test_everything_is_escaped() -> None:
    """Whatever a sender, a broker or the service put into whichever place: the same elements, and the text itself."""
    # Keys that are made hostile become the same key, so there is one of each.
    activity = replace(STATUS.activity, outcomes={("o", "r"): 1})
    status = replace(STATUS, regions={"r": {"b": "c"}}, activity=activity)
    harmless = shown(status, Readiness(True, "x", {"x": {"deep": "x"}}))
    parsed = shown(hostile(status), Readiness(True, HOSTILE, {HOSTILE: {"deep": HOSTILE}}))

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
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in render_page(Readiness(True, ""), Status())


@pytest.mark.parametrize(
    ("state", "readiness", "texts"),
    [
        ("consuming", Readiness(True, "consuming"), ["Consuming", "dcs-worker 1.2.3, up 1 h 2 min"]),
        ("paused", Readiness(False, "the broker blocks publishing"), ["Paused", "the broker blocks publishing"]),
        ("draining", Readiness(False, "draining"), ["Draining"]),
        ("waiting", Readiness(False, "x", {"next": 2.5, "regions": {"r": {}}}), ["Waiting", "x · next: 2.5"]),
    ],
)
def test_state_is_heading(state: Any, readiness: Readiness, texts: list[str]) -> None:
    """The state is the heading; the reason follows unless it is the same."""
    parsed = shown(replace(STATUS, state=state), readiness)
    for text in texts:
        assert text in parsed.texts
    assert state not in parsed.texts


def test_tiles_show_current_figures() -> None:
    """Queue length, requests in flight, and the figures of the last minute."""
    texts = shown().texts
    for value, name in (("12,345", "waiting in the queue"), ("12 of 64", "in flight"), ("3", "failed, last minute")):
        assert texts[texts.index(name) - 1] == value


def test_requests_in_flight_have_ages() -> None:
    """Age and ids of the oldest, and the number of the others."""
    assert shown().table("in-flight") == [["12 s", "request-1", "project-1"], ["0.3 s", "request-2", "project-2"]]
    assert "and 10 more" in shown().texts
    crowd = replace(STATUS, in_flight=30, in_hand=tuple(InHand("p", f"r{i}", 1.0) for i in range(30)))
    assert len(shown(crowd).table("in-flight")) == MAX_REQUESTS_SHOWN
    assert f"and {30 - MAX_REQUESTS_SHOWN} more" in shown(crowd).texts


def test_failures_and_faults() -> None:
    """When, why, whose, where, after how many creates, and what was said; what is not known is a dash."""
    assert shown().table("failures") == [
        ["1 min 30 s ago", "unresolved parked", "request-9", "project-9", "cn-north-4", "2", "504: late"],
        ["1 min 40 s ago", "invalid_request parked", NOTHING, NOTHING, NOTHING, "0", NOTHING],
    ]
    assert shown().table("faults") == [["503", "ambiguous", "7", "5.0 s ago", "DCS.5000 busy"]]


def test_other_tables() -> None:
    """Outcomes; regions, with a column for every common fact; connections; settings."""
    parsed = shown()
    assert parsed.table("outcomes") == [["succeeded", "created", "4,000"], ["failed", "rejected", "3"]]
    assert parsed.table("regions") == [
        ["cn-north-4", "open", "open for 5; pace 2.5"],
        ["eu-west-1", "closed", NOTHING],
    ]
    assert parsed.table("connections") == [["broker, consumer", "up"], ["Redis", "away"]]
    assert parsed.table("settings")[0] == ["WORKER_QUEUE", "dcs.migration.requests", "queue of requests"]


def test_empty_tables_are_sentences() -> None:
    """A table without rows is a sentence."""
    parsed = shown(Status())
    assert parsed.rows == {}
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
    assert len(render_page(Readiness(True, "consuming"), busy)) < 100_000
