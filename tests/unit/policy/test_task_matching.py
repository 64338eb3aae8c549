"""Recognising a request's task among others, in every form in which the service may show its texts."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dcs import TaskDetail, TaskRow
from schemas.request import Request, Task
from schemas.timestamp import from_text
from tests.malformed_bodies import TASK
from worker.policy import task_matching
from worker.policy.call_result import ConflictingTask, SeveralTasks, TaskFound, TaskNotFound
from worker.policy.migration_request import MigrationRequest, migration
from worker.policy.task_matching import Match

MARKER = "#rq-ca978112ca1bbdca"
OTHER_MARKER = "#rq-0000000000000000"
SINCE = 1_790_000_000.0
YOUNG, OLD = "2026-09-21T14:13:20Z", "2026-09-21T14:12:19Z"


def request(with_marker: bool = True, **task: str) -> MigrationRequest:
    """The request `a` for the sample task with these changes."""
    content = Request(request_id="a", project_id="p", task=Task(**(TASK | task)))
    return migration(content, default_region="cn-north-4", with_marker=with_marker)


MARKED, PLAIN = request(), request(with_marker=False)
ROW = TaskRow(
    task_id="t",
    task_name=TASK["name"],
    description=f"x {MARKER}",
    migration_type="online_migration",
    created_at=YOUNG,
)
DETAIL = TaskDetail(
    task_id="t",
    tenant_vpc_id=TASK["vpc_id"],
    tenant_subnet_id=TASK["subnet_id"],
    tenant_security_group_id=TASK["security_group_id"],
)


def judged(
    sent: MigrationRequest,
    since: float = SINCE,
    networks: str | None = "ours",
    was_sent: bool = True,
    **row: str | None,
) -> Match:
    """What list row and detail say of a task that shows the same description in both."""
    shown = ROW.model_copy(update=row)
    match = task_matching.row(sent, shown, since)
    if match is not Match.ASK:
        return match
    asked = DETAIL.model_copy(update={"description": shown.description})
    if networks != "ours":
        asked = asked.model_copy(update={"tenant_subnet_id": networks})
    return task_matching.detail(sent, shown, asked, since, was_sent=was_sent)


def test_a_task_of_another_kind_is_not_ours() -> None:
    """The list call mixes kinds; older services do not say of what kind a task is."""
    for kind in ("backupfile_import", "something new"):
        assert judged(MARKED, migration_type=kind) is Match.NO
        assert judged(PLAIN, migration_type=kind) is Match.NO
    assert judged(MARKED, migration_type=None) is Match.YES
    assert judged(PLAIN, migration_type=None) is Match.YES


@pytest.mark.parametrize("name", ["dcs-migration-thrc-2", "dcs-migration-", "", None])
def test_without_marker_a_task_of_another_name_is_not_ours(name: str | None) -> None:
    """The list call filters by part of a name. A task whose name begins like ours is another one: thrc-1, thrc-10."""
    assert judged(PLAIN, task_name=name) is Match.NO
    assert (
        judged(request(with_marker=False, name="dcs-migration-thrc-10"), task_name="dcs-migration-thrc-1") is Match.NO
    )


@pytest.mark.parametrize("name", ["DCS migration thrc", "dcs-\u200bmigration-thrc", "dcs-migration-thrc}"])
def test_without_marker_a_name_that_is_only_alike_is_in_doubt_after_a_lost_answer(name: str) -> None:
    """Neither adopted nor created again; before any create it is another task."""
    assert judged(PLAIN, task_name=name) is Match.UNSURE
    assert judged(PLAIN, was_sent=False, task_name=name) is Match.NO
    assert judged(PLAIN, networks="other", task_name=name) is Match.NO
    assert judged(PLAIN, created_at=OLD, task_name=name) is Match.NO


FORMS = {
    "dcs <Größe> & Ü": " dcs <Größe> & Ü ",
    "Gro\u0308\u00dfe": "Gr\u00f6\u00dfe",
    "Gr\u00f6\u00dfe": "Gro\u0308\u00dfe",
    "a & <b>": "a &amp; &lt;b&gt;",
    "it's": "it&#39;s",
    "a &amp; b": "a &amp;amp; b",
    "DCS-Migration": "dcs-migration",
    "a  b c": "a b c",
    "a\u00a0b": "a b",
    "Stra\u00dfe": "STRASSE",
    "Umzug \U0001f680": "Umzug ?",
    "Umzug \U0001f680 x": "Umzug ???? x",
    "a\U0001f680b": "a\ufffdb",
    "exactly the same": "exactly the same",
}


@pytest.mark.parametrize(("sent", "shown"), FORMS.items())
@pytest.mark.parametrize("with_marker", [True, False])
def test_a_name_in_another_form_is_ours(sent: str, shown: str, with_marker: bool) -> None:
    """Trimmed, composed or decomposed, escaped, in lower case, with blanks joined, without characters of four bytes."""
    assert judged(request(with_marker, name=sent), task_name=shown) is Match.YES


@pytest.mark.parametrize("shown", ["Umzug \U0001f389", "Umzug !", "Umzug", "Umzug ?x", "Umz?g \U0001f680"])
def test_a_character_that_is_another_one_is_no_form(shown: str) -> None:
    """Only what stands in the place of a character of four bytes can be it."""
    order = request(with_marker=False, name="Umzug \U0001f680")
    assert judged(order, was_sent=False, task_name=shown) is Match.NO
    assert judged(order, task_name=shown) is not Match.YES


@pytest.mark.parametrize(("sent", "shown"), FORMS.items())
def test_a_marker_counts_in_any_form_of_the_description(sent: str, shown: str) -> None:
    """The text in front of the marker does not matter, nor what the service adds behind it."""
    for text in (
        f"{shown} {MARKER}",
        f"{shown} {MARKER}}}",
        f"{shown} &#35;rq&#x2d;{MARKER[4:]}",
        f"{shown}{MARKER} x",
    ):
        assert judged(request(description=sent), description=text) is Match.YES


@pytest.mark.parametrize(
    ("description", "match"),
    [
        (MARKER, Match.YES),
        (f"x {MARKER} \n", Match.YES),
        (f"{OTHER_MARKER} {MARKER}", Match.YES),  # a sender's own text
        (f"{MARKER} {OTHER_MARKER}", Match.NO),  # another request, whose sender copied our description
        (f"x {OTHER_MARKER}", Match.NO),
        (MARKER[:-1], Match.NO),
        ("x #rq-", Match.NO),
        ("x", Match.NO),
        (f"x {MARKER[1:]}", Match.UNSURE),  # special characters removed, or quoted by a sender
        (f"x%20%23rq-{MARKER[4:].upper()}", Match.UNSURE),
        (f"x \uff03rq-{MARKER[4:]} y", Match.UNSURE),
        (f"x {MARKER[1:]} {OTHER_MARKER}", Match.NO),
        ("", Match.UNSURE),
        (None, Match.UNSURE),
    ],
)
def test_the_last_marker_decides(description: str | None, match: Match) -> None:
    """An earlier one is a sender's text; a text that is left out altogether may have been ours."""
    assert MARKED.marker == MARKER
    assert judged(MARKED, description=description) is match


def test_a_list_without_descriptions_asks_for_the_detail_of_tasks_of_our_name() -> None:
    """Also if the name is cut; the detail's description is judged by the same rule."""
    row, detail = ROW.model_copy(update={"description": None}), DETAIL.model_copy(update={"description": f"x {MARKER}"})
    assert task_matching.row(MARKED, row, SINCE) is Match.ASK
    assert task_matching.row(MARKED, row.model_copy(update={"task_name": TASK["name"][:16]}), SINCE) is Match.ASK
    for name in (TASK["name"][:15], TASK["name"] + "-2", "other", None):
        assert task_matching.row(MARKED, row.model_copy(update={"task_name": name}), SINCE) is Match.NO
    assert task_matching.detail(MARKED, row, detail, SINCE) is Match.YES
    for text, match in ((f"x {OTHER_MARKER}", Match.NO), ("x", Match.NO), ("", Match.UNSURE), (None, Match.UNSURE)):
        asked = detail.model_copy(update={"description": text})
        assert task_matching.detail(MARKED, row, asked, SINCE) is match


@pytest.mark.parametrize(
    ("sent", "shown", "match"),
    [
        ("a\u200bb", "ab", Match.ASK),
        ("\u0130stanbul", "istanbul", Match.ASK),
        ("\uff46\uff55ll \ufb01", "full fi", Match.ASK),
        ("thrc", "thrc}", Match.ASK),
        ("Umzug \U0001f680 heute", "Umzug heute", Match.ASK),
        ("Umzug \U0001f680 heute", "Umzug", Match.ASK),
        ("Umzug \U0001f680 heute", "Um", Match.NO),
        ("thrc", "thrc2", Match.NO),
        ("thrc", None, Match.NO),
    ],
)
def test_a_row_without_description_is_asked_in_more_forms_of_its_name(sent: str, shown: str, match: Match) -> None:
    """Zero-width characters and accents lost, compatible characters replaced, text added, cut at an emoji."""
    row = ROW.model_copy(update={"task_name": shown, "description": None})
    assert task_matching.row(request(name=sent), row, SINCE) is match
    if match is Match.ASK:
        for text, verdict in ((f"x {MARKER}", Match.YES), (f"x {OTHER_MARKER}", Match.NO), ("x", Match.NO)):
            detail = DETAIL.model_copy(update={"description": text})
            assert task_matching.detail(request(name=sent), row, detail, SINCE) is verdict


@pytest.mark.parametrize(
    ("description", "match"),
    [(f"x {MARKER}", Match.UNSURE), (f"x {OTHER_MARKER}", Match.NO), ("x", Match.NO), (None, Match.NO)],
)
def test_a_deleted_task_with_our_marker_is_not_created_again(description: str | None, match: Match) -> None:
    """The list still shows it, the detail call does not know it."""
    row = ROW.model_copy(update={"task_name": "another", "description": description})
    assert task_matching.without_detail(MARKED, row) is match
    assert task_matching.without_detail(PLAIN, row) is Match.NO


@pytest.mark.parametrize(
    ("name", "networks", "match"),
    [
        (TASK["name"], "other", Match.YES),  # with the marker and the name the networks do not matter
        (TASK["name"][:16], "other", Match.YES),
        (TASK["name"][:15], "ours", Match.YES),
        ("d?s-migration-thrc", "ours", Match.YES),  # a form that no rule knows
        ("another", "ours", Match.YES),
        (None, "ours", Match.YES),
        ("another", "other", Match.CONFLICT),
        (TASK["name"][:15], "other", Match.CONFLICT),
        ("another", None, Match.UNSURE),
    ],
)
def test_our_marker_under_another_name_is_ours_on_equal_networks(
    name: str | None, networks: str | None, match: Match
) -> None:
    """Else the request id belongs to another task, or that cannot be known."""
    assert judged(MARKED, task_name=name, networks=networks) is match


LONG = "Umzug der Caches des Mandanten 4711 in das neue Netz, Schritt 3 von 7, " * 3
CUT = request(description=LONG)


@pytest.mark.parametrize(
    ("created_at", "networks", "match"),
    [
        (YOUNG, "ours", Match.YES),
        ("2026-09-21T14:12:20.000Z", "ours", Match.YES),  # a minute before: the service's clock may be behind
        ("2026-09-21T22:12:20+08:00", "ours", Match.YES),
        (OLD, "ours", Match.UNSURE),
        ("2026/09/21 14:13:20", "ours", Match.UNSURE),  # without a zone
        ("soon", "ours", Match.UNSURE),
        (None, "ours", Match.UNSURE),
        (YOUNG, None, Match.UNSURE),
        (YOUNG, "other", Match.NO),
        (OLD, "other", Match.NO),
    ],
)
def test_a_cut_description_is_ours_on_equal_networks_if_it_is_young(
    created_at: str | None, networks: str | None, match: Match
) -> None:
    """It is never adopted if it may be older than the request."""
    for text in (LONG[:61], LONG[:64], LONG[:128] + "\ufffd", f"{LONG} {MARKER[:10]}", LONG[:100].upper()):
        assert judged(CUT, created_at=created_at, networks=networks, description=text) is match
    assert judged(CUT, since=0.0, description=LONG[:128]) is Match.UNSURE, "not known since when"


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (LONG, LONG[:128] + "x"),
        (LONG, LONG[1:]),
        (f"{LONG[:70]}{'x' * 60}", f"{LONG[:70]}{'y' * 60}"),
        ("short", "shoe"),
        ("short", "hort"),
    ],
)
def test_other_descriptions_are_not_cut_ones(sent: str, shown: str) -> None:
    """They are no beginning of what was sent."""
    assert judged(request(description=sent), description=shown) is Match.NO


@pytest.mark.parametrize("length", [61, 63, 64, 100, 213, 230])
@pytest.mark.parametrize("created_at", [YOUNG, OLD, None])
def test_a_cut_description_is_not_ours_if_no_create_was_called(length: int, created_at: str | None) -> None:
    """It may be that of another request for the same task; nor is it created again, for it may be ours after all."""
    text = f"{LONG} {MARKER}"[:length]
    assert judged(CUT, was_sent=False, created_at=created_at, description=text) is Match.UNSURE
    assert judged(CUT, was_sent=False, networks="other", description=text) is Match.NO


@pytest.mark.parametrize(("sent", "shown"), [(LONG, LONG[:60]), ("x" * 60, "x" * 60), ("short", "sho"), ("short", "")])
@pytest.mark.parametrize("was_sent", [True, False])
def test_a_short_beginning_is_neither_adopted_nor_created_again(sent: str, shown: str, was_sent: bool) -> None:
    """It may be anybody's, or all that the service keeps. A task that is surely older is another's."""
    order = request(description=sent)
    assert judged(order, was_sent=was_sent, description=shown) is Match.UNSURE
    assert judged(order, was_sent=was_sent, description=shown, created_at=None) is Match.UNSURE
    assert judged(order, was_sent=was_sent, description=shown, created_at=OLD) is Match.NO


def test_a_task_that_answered_the_create_of_another_request_is_not_ours_without_our_marker() -> None:
    """With it, that answer was a stale one: the task is ours."""
    for text, match in ((LONG[:100], Match.NO), ("", Match.NO), (f"x {MARKER}", Match.YES)):
        shown = DETAIL.model_copy(update={"description": text})
        row = ROW.model_copy(update={"description": None})
        assert task_matching.detail(CUT, row, shown, SINCE, was_sent=True, is_anothers=True) is match


def test_a_cut_at_a_character_boundary_is_a_cut() -> None:
    """Of 64 bytes 61 to 63 are left, if the character there has more than one and is dropped."""
    for text in ("é" * 100, "x" + "é" * 100, "x" * 61 + "€" * 30, "x" * 61 + "🚀" * 30):
        shown = text.encode()[:64].decode(errors="ignore")
        assert judged(request(description=text), description=shown) is Match.YES


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (LONG, f"{LONG[:64]}..."),
        (LONG, f"{LONG[:64]}\u2026"),
        (f"{LONG[:70]} & more", f"{LONG[:70]} &am"),
        (f"{LONG[:70]} & more", f"{LONG[:70]} &amp;am"),
        (f"{LONG[:70]} & more", f"{LONG[:70]} &\u2026"),
        (f"{LONG[:70]} 'more'", f"{LONG[:70]} &#3"),
        (f"{LONG[:70]}\U0001f680 more", f"{LONG[:70]}&#1286"),
        (f"\U0001f680 {LONG}", f"? {LONG[:70]}"),
        (f"\U0001f680\U0001f680 {LONG}", f"\ufffd\ufffd {LONG[:70]}?"),
    ],
)
def test_a_cut_description_counts_in_any_form(sent: str, shown: str) -> None:
    """With a sign for what is left out, cut inside an escaped character, without characters of four bytes."""
    assert judged(request(description=sent), description=shown) is Match.YES
    assert judged(request(description=sent), was_sent=False, description=shown) is Match.UNSURE


@pytest.mark.parametrize("shown", ["?" * 64, "\ufffd" * 40, "." * 64, "x" + "?" * 63, "x" + "." * 58 + "&amp;"])
def test_what_stands_for_lost_characters_is_no_text(shown: str) -> None:
    """It may be anybody's."""
    order = request(description=("x" if shown[0] == "x" else "") + "\U0001f680" * 100)
    assert judged(order, description=shown) is Match.UNSURE
    assert judged(order, description=shown, networks="other") is Match.NO


def test_a_cut_description_needs_an_equal_name() -> None:
    """The beginning of a name is not enough."""
    for name in (TASK["name"][:16], "another"):
        assert judged(CUT, task_name=name, description=LONG[:128]) is Match.NO
    assert judged(CUT, task_name=TASK["name"].upper(), description=LONG[:128]) is Match.YES


def test_the_same_long_text_without_marker_is_not_adopted() -> None:
    """Somebody made the same task, or the service cut off just the marker: an operator must look."""
    assert judged(CUT, description=LONG) is Match.UNSURE


def test_the_detail_may_show_more_than_the_list() -> None:
    """Then its text decides: all requests of one sender may begin alike."""
    row = ROW.model_copy(update={"description": LONG[:128]})
    for text, match in ((f"{LONG}{MARKER}", Match.YES), (f"{LONG}{OTHER_MARKER}", Match.NO), (LONG + "x", Match.NO)):
        detail = DETAIL.model_copy(update={"description": text})
        assert task_matching.detail(CUT, row, detail, SINCE) is match
    escaped, short = ROW.model_copy(update={"description": "&lt;" * 20}), request(description="<" * 30)
    for text, match in ((f"{'<' * 30} {MARKER}", Match.YES), (f"{'<' * 30} {OTHER_MARKER}", Match.NO)):
        assert task_matching.row(short, escaped, SINCE) is Match.ASK
        detail = DETAIL.model_copy(update={"description": text})
        assert task_matching.detail(short, escaped, detail, SINCE) is match, "shorter, but with a marker"


@pytest.mark.parametrize("text", ["\U0001f680 Start", "Umzug \U0001f680 heute", "Umzug\x00heute"])
def test_a_short_text_that_is_cut_at_an_emoji_or_nul_is_not_created_again(text: str) -> None:
    """Some databases cut there. Too little to adopt it, too much to take it for another's because it is older."""
    sent, shown = request(description=text), text.partition("\U0001f680")[0].partition("\x00")[0]
    for created_at in (YOUNG, OLD, None):
        assert judged(sent, description=shown, created_at=created_at) is Match.UNSURE
        assert judged(sent, was_sent=False, description=shown, created_at=created_at) is Match.UNSURE
    assert judged(sent, description=text[: len(shown) // 2 + 1], created_at=OLD) is Match.NO
    assert judged(sent, description=shown, networks="other") is Match.NO
    assert judged(sent, description=shown + "x") is Match.NO


@pytest.mark.parametrize("text", ["&#" + "9" * 5000 + ";", "&" + "amp;" * 50_000, "&" * 100_000, "&#x" + "f" * 100_000])
def test_no_text_of_the_service_does_harm(text: str) -> None:
    """Numbers that are too long to be read, and texts that were escaped without end, are texts like others."""
    started = time.process_time()
    assert judged(MARKED, task_name=text, description=text) is Match.NO
    assert judged(MARKED, task_name=text, description=f"{text} {MARKER}") is Match.YES
    assert time.process_time() - started < 1.0  # ten times what it takes; by the square it would be minutes


@given(st.text(min_size=65, max_size=120), st.integers(64, 400))
def test_a_description_that_is_cut_between_any_two_bytes_is_recognised(text: str, length: int) -> None:
    """Whether the incomplete character is dropped or replaced."""
    sent = request(description=text)
    whole = f"{text} {MARKER}".encode()
    for errors in ("ignore", "replace"):
        shown = whole[:length].decode(errors=errors)
        if len(shown.encode()) >= 64:
            assert judged(sent, description=shown) is not Match.NO


@pytest.mark.parametrize("shown", [f"a b {MARKER}", f"A  b {MARKER.upper()} ", f"a b {MARKER} (console)"])
def test_marker_is_kept_in_any_form_in_which_it_is_recognised(shown: str) -> None:
    """What the service does to the text before or behind it does not matter."""
    assert task_matching.marker_state(request(description="a b"), shown) == task_matching.MARKER_KEPT


@pytest.mark.parametrize("shown", ["", "a b", f"a b {MARKER}"[:-1], f"a b {OTHER_MARKER}", f"{MARKER} {OTHER_MARKER}"])
def test_marker_that_would_not_be_recognised_is_lost(shown: str) -> None:
    """Cut, left out, or not the last one: how much of the text is listed tells where to look."""
    state = task_matching.marker_state(request(description="a b"), shown)
    assert state == f"lost: {len(shown)} of 24 characters are listed"


@pytest.mark.parametrize("created_at", ["2000-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "soon", None])
def test_with_a_marker_the_date_does_not_matter(created_at: str | None) -> None:
    """The marker is proof enough, whatever the service's clock says."""
    assert judged(MARKED, created_at=created_at) is Match.YES


@pytest.mark.parametrize(
    ("created_at", "match"),
    [
        ("2026-09-21T14:13:20Z", Match.YES),  # the moment itself
        ("2026-09-21T14:12:20.000Z", Match.YES),  # a minute before: the service's clock may be behind
        ("2026-09-21T14:12:19.999Z", Match.NO),
        ("2026-09-21T22:12:20+08:00", Match.YES),
        ("2026-09-21T22:12:19+08:00", Match.NO),
        ("2026/09/21 00:12:20", Match.YES),  # may be local time anywhere
        ("2026/09/21 00:12:19", Match.NO),
        ("202609210013", Match.YES),
        ("202609210012", Match.NO),
        ("2019/10/22 14:44:30", Match.NO),
        ("2999-01-01T00:00:00Z", Match.YES),
        ("soon", Match.YES),
        ("", Match.YES),
        (None, Match.YES),
    ],
)
def test_without_a_marker_what_is_older_than_the_request_is_not_ours(created_at: str | None, match: Match) -> None:
    """Only a task that was surely created before the request was known is ruled out by its date."""
    assert from_text("2026-09-21T14:13:20Z") == SINCE
    assert judged(PLAIN, created_at=created_at) is match


@pytest.mark.parametrize("field", ["tenant_vpc_id", "tenant_subnet_id", "tenant_security_group_id"])
@pytest.mark.parametrize("value", ["another", None])
def test_without_a_marker_all_three_networks_must_match(field: str, value: str | None) -> None:
    """The detail call decides by VPC, subnet and security group together."""
    assert task_matching.detail(PLAIN, ROW, DETAIL, SINCE) is Match.YES
    assert task_matching.detail(PLAIN, ROW, DETAIL.model_copy(update={field: value}), SINCE) is Match.NO


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("", None),
        ("2021-06-16T06:12:55.508Z", 1623823975.508),
        (" 2021-06-16T06:12:55.508Z ", 1623823975.508),
        ("2021-06-16T06:12:55+0800", 1623795175.0),
        ("2019/10/22 14:44:30", 1571755470.0 + 14 * 3600),
        ("2019-10-22 14:44:30", 1571755470.0 + 14 * 3600),
        ("201910221444", 1571755440.0 + 14 * 3600),
        ("2019-10-22", 1571702400.0 + 14 * 3600),
        ("22 October 2019", None),
        ("201910221444300", None),
        ("2019-13-22 14:44:30", None),
    ],
)
def test_a_date_is_read_as_late_as_it_can_mean(text: str | None, seconds: float | None) -> None:
    """Every form that the service is known to use is read; without an offset it may be any zone's."""
    assert task_matching.latest(text) == seconds


@given(st.text(max_size=30) | st.text("0123456789-/:TZ +.", max_size=30))
def test_no_date_does_harm(text: str) -> None:
    """Whatever the service calls a date, reading it does not fail."""
    moment = task_matching.latest(text)
    assert moment is None or moment > -1e12


@pytest.mark.parametrize(
    ("matches", "lookup_result"),
    [
        ("", TaskNotFound()),
        ("NO NO", TaskNotFound()),
        ("NO YES", TaskFound("t1")),
        ("YES UNSURE CONFLICT", TaskFound("t0")),
        ("YES NO YES", SeveralTasks(("t0", "t2"))),
        ("YES YES UNSURE", SeveralTasks(("t0", "t1"))),
        ("NO UNSURE CONFLICT", SeveralTasks(("t1",))),
        ("CONFLICT NO CONFLICT", ConflictingTask(("t0", "t2"))),
    ],
)
def test_a_task_that_is_certainly_ours_outweighs_the_others(matches: str, lookup_result: object) -> None:
    """Then what may be ours, then what has only our request id."""
    found = {f"t{number}": Match[match] for number, match in enumerate(matches.split())}
    assert task_matching.lookup_result(found) == lookup_result
