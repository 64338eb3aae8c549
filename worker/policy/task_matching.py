"""Which of the listed tasks is the request's: law `look-before-create`.

The service may show a text in another form: trimmed, normalised, escaped, in lower case, cut. The list call filters by
part of a name, mixes kinds of migration, and older services leave `description` out (API reference, "Listing Migration
Tasks"). So every row is judged here: by marker and name, else by name, networks and creation time.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import Final
from unicodedata import normalize

from schemas import identity
from schemas.dcs import ONLINE_MIGRATION, TaskDetail, TaskRow
from schemas.text_form import last_marker, normal
from worker.policy.call_result import ConflictingTask, LookupResult, SeveralTasks, TaskFound, TaskNotFound
from worker.policy.migration_request import MigrationRequest

CLOCK_SLACK: Final = 60.0
"""Seconds by which the service's clock may be behind ours."""
MIN_CUT_NAME_CHARACTERS: Final = 16
"""A shorter beginning of a name may be anybody's."""
MIN_CUT_DESCRIPTION_BYTES: Final = 61
"""What a cut at 64 bytes keeps if the character there is dropped. A shorter beginning may be anybody's."""
MARKER_KEPT: Final = "kept"
MARKER_REMEDY: Final = "let senders use shorter descriptions; tasks that look alike can end requests as unresolved"
_CUT_SIGNS: Final = "?\ufffd.\u2026 "
"""What stands for a character that was cut in the middle, or for all that was cut off."""
_CUT_ENTITY: Final = re.compile(r"&[#\w;]{0,12}$")
"""An escaped character that may have been cut in the middle, where its number may mean another one."""
_FOUR_BYTES: Final = re.compile("[\U00010000-\U0010ffff]")
_LOST: Final = re.compile("[?\ufffd\U00010000-\U0010ffff]+")
"""Characters of four bytes, and what databases that keep three at most put in their place."""
_NO_LETTERS: Final = re.compile("[\\W_\U00010000-\U0010ffff]+")
"""All but letters and digits, and those that may have been lost."""
_UNKEPT: Final = re.compile("[\x00\U00010000-\U0010ffff]")
"""Characters at which some databases truncate a text, for they cannot keep them."""
_ANY_ZONE: Final = 14 * 3600.0
"""A time without an offset may be local time anywhere."""
_FORMATS: Final = ("%Y/%m/%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y%m%d%H%M")


class Match(Enum):
    """What one row says."""

    NO = "no"
    YES = "yes"
    ASK = "ask"
    """Only the detail call can tell."""
    UNSURE = "unsure"
    """It may be ours: neither to be adopted nor to be created again."""
    CONFLICT = "conflict"
    """It has our marker but another name and other networks: the request id belongs to another task."""


def row(migration: MigrationRequest, row: TaskRow, since: float) -> Match:
    """Judge a row of the list. `since`: epoch seconds before which the request was not known; 0 if that is unknown."""
    if row.migration_type not in (None, ONLINE_MIGRATION):
        return Match.NO
    if migration.marker is None:
        is_possible = _is_alike(migration.task.name, row.task_name) and not _is_older(row, since)
        return Match.ASK if is_possible else Match.NO
    has_our_name = _is_equal_or_cut(migration.task.name, row.task_name)
    if row.description is None:
        is_possible = has_our_name or _is_alike(migration.task.name, row.task_name)
        return Match.ASK if is_possible else Match.NO
    # The marker is always the last one; before it there may be a sender's text, behind it what the service adds.
    marker = last_marker(row.description)
    if marker == migration.marker:
        return Match.YES if has_our_name else Match.ASK
    if marker is not None:
        return Match.NO
    is_possible = _has_marker_digits(migration, row.description) or _may_be_cut(migration, row, row.description)
    return Match.ASK if is_possible else Match.NO


def detail(
    migration: MigrationRequest,
    row: TaskRow,
    detail: TaskDetail,
    since: float,
    *,
    was_sent: bool = False,
    is_anothers: bool = False,
) -> Match:
    """Judge a row that was asked for its detail; never ASK.

    Where its marker was cut off: `was_sent`: a create of this very request was called; `is_anothers`: the task answered
    that of another one.
    """
    has_our_networks = _has_our_networks(migration, detail)
    if migration.marker is None:
        unequal = Match.UNSURE if was_sent else Match.NO
        found = Match.YES if _is_equal(migration.task.name, row.task_name) else unequal
        return found if has_our_networks else Match.NO
    texts = row.description or "", detail.description or ""  # a list may show less
    description = max(texts, key=lambda text: (last_marker(text) is not None, len(text)))
    marker = last_marker(description)
    if marker == migration.marker:
        if has_our_networks or _is_equal_or_cut(migration.task.name, row.task_name):
            return Match.YES
        return Match.UNSURE if has_our_networks is None else Match.CONFLICT
    if is_anothers or marker is not None or has_our_networks is False:
        return Match.NO
    return _unmarked(migration, row, description, since, may_be_ours=was_sent and bool(has_our_networks))


def _unmarked(migration: MigrationRequest, row: TaskRow, description: str, since: float, *, may_be_ours: bool) -> Match:
    """Judge a task of our networks whose description has no marker: it may be ours without its end."""
    if _has_marker_digits(migration, description):
        return Match.UNSURE
    if not _may_be_cut(migration, row, description):
        return Match.NO
    is_older = _is_older(row, since)
    if not _is_long(description):
        is_anybodys = is_older and not _is_truncated(_sent_description(migration), description)
        return Match.NO if is_anybodys else Match.UNSURE
    # Nothing but a create of ours makes it ours: two requests may differ in their markers only. The whole text without
    # a marker was probably not cut: the same task made by somebody else.
    is_cut = normal(description) != normal(migration.task.description or "")
    return Match.YES if may_be_ours and is_older is False and is_cut else Match.UNSURE


def without_detail(migration: MigrationRequest, row: TaskRow) -> Match:
    """Judge a row whose detail does not exist: a task that was deleted. One with our marker is not created again."""
    has_our_marker = migration.marker is not None and last_marker(row.description or "") == migration.marker
    return Match.UNSURE if has_our_marker else Match.NO


def marker_state(migration: MigrationRequest, description: str) -> str:
    """What became of the marker in the description of a created task: `MARKER_KEPT`, or how much is shown instead."""
    if last_marker(description) == migration.marker:
        return MARKER_KEPT
    return f"lost: {len(description)} of {len(_sent_description(migration))} characters are listed"


def lookup_result(matches: Mapping[str, Match]) -> LookupResult:
    """Result of a look-up that judged these tasks, by id. A task that is certainly ours outweighs all others."""
    ours, unsure, conflicting = (
        tuple(sorted(task_id for task_id, match in matches.items() if match is verdict))
        for verdict in (Match.YES, Match.UNSURE, Match.CONFLICT)
    )
    if len(ours) == 1:
        return TaskFound(ours[0])
    if candidates := ours or unsure:
        return SeveralTasks(candidates)
    return ConflictingTask(conflicting) if conflicting else TaskNotFound()


def _sent_description(migration: MigrationRequest) -> str:
    return identity.marked_description(migration.task, migration.marker or "")


def _compared(sent: str, shown: str) -> tuple[str, str]:
    """Both texts in the form in which they are compared."""
    sent, shown = normal(sent), normal(shown)
    if _FOUR_BYTES.search(sent) and not _FOUR_BYTES.search(shown):
        return _LOST.sub("?", sent), _LOST.sub("?", shown)
    return sent, shown


def _is_equal(sent: str, shown: str | None) -> bool:
    if shown is None or shown == sent:
        return shown is not None
    ours, theirs = _compared(sent, shown)
    return ours == theirs


def _is_equal_or_cut(sent: str, shown: str | None) -> bool:
    if shown is None or _is_equal(sent, shown):
        return shown is not None
    return len(shown.strip()) >= MIN_CUT_NAME_CHARACTERS and normal(sent).startswith(normal(shown))


def _is_truncated(sent: str, shown: str) -> bool:
    """Whether a database truncated the text at a character that it cannot keep."""
    kept = _UNKEPT.split(sent, maxsplit=1)[0]
    return kept != sent and normal(kept) == normal(shown)


def _is_alike(sent: str, shown: str | None) -> bool:
    """Whether a name may be another form of ours. That is no proof, but a reason to ask."""
    return shown is not None and (_letters(sent) == _letters(shown) or _is_truncated(sent, shown))


@lru_cache(maxsize=64)  # ours is compared with every row of a list
def _letters(name: str) -> str:
    return _NO_LETTERS.sub("", normalize("NFKD", normal(name)).casefold())


def _may_be_cut(migration: MigrationRequest, row: TaskRow, description: str) -> bool:
    """Whether the service may have cut our description to this one."""
    if not _is_equal(migration.task.name, row.task_name):
        return False
    sent, shown = _compared(_sent_description(migration), _without_end(description))
    shown = shown.rstrip(_CUT_SIGNS)
    return sent != shown and sent.startswith(shown)


def _has_marker_digits(migration: MigrationRequest, description: str) -> bool:
    """Whether the digits of our marker are there: the service may have changed `#rq-`, or a sender quotes them."""
    return (migration.marker or "")[-16:] in description.lower()


def _without_end(description: str) -> str:
    return _CUT_ENTITY.sub("", description.rstrip(_CUT_SIGNS))


def _is_long(description: str) -> bool:
    return len(_without_end(description).encode(errors="replace")) >= MIN_CUT_DESCRIPTION_BYTES


def _has_our_networks(migration: MigrationRequest, detail: TaskDetail) -> bool | None:
    """None if the detail shows too few of them."""
    ours = migration.task.vpc_id, migration.task.subnet_id, migration.task.security_group_id
    shown = detail.tenant_vpc_id, detail.tenant_subnet_id, detail.tenant_security_group_id
    if any(text is not None and not _is_equal(own, text) for own, text in zip(ours, shown, strict=True)):
        return False
    return None if None in shown else True


def _is_older(row: TaskRow, since: float) -> bool | None:
    """Whether the task was created before the request was known; None if that is not certain."""
    created = latest(row.created_at)
    if created is None:
        return None
    if created < since - CLOCK_SLACK:
        return True
    return False if since and _has_zone(row.created_at or "") else None


def latest(text: str | None) -> float | None:
    """The latest moment (epoch seconds) that a date of the service can mean; None if it means nothing."""
    moment = _moment(text.strip()) if text is not None else None
    if moment is None:
        return None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC).timestamp() + _ANY_ZONE
    return moment.timestamp()


def _moment(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    for form in _FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is not said, which `latest` allows for
    return None


def _has_zone(text: str) -> bool:
    moment = _moment(text.strip())
    return moment is not None and moment.tzinfo is not None
