"""Selection of parked requests by options."""

from typing import Any

import pytest
import typer

from tests.unit.cli.parked.parked_messages import NOW, parked_request
from worker.cli.parked.selection import Selection, selection_from_options


@pytest.mark.parametrize(
    ("options", "is_selected"),
    [
        ({"ids": ["r"]}, True),
        ({"ids": ["m"]}, True),
        ({"ids": ["other"]}, False),
        ({"ids": None, "every": True}, True),
        ({"ids": None, "reason": "exhausted", "project": "p"}, True),
        ({"ids": None, "reason": "exhausted", "project": "q"}, False),
        ({"ids": ["r"], "reason": "forbidden"}, False),
        ({"ids": None, "name": "batch-*"}, True),
        ({"ids": None, "name": "batch"}, False),
        ({"ids": None, "error_code": "DCS.1"}, False),
        ({"ids": None, "older_than": "2d"}, True),
        ({"ids": None, "older_than": "20000d"}, False),
    ],
)
def test_request_is_selected_if_all_conditions_match(options: dict[str, Any], *, is_selected: bool) -> None:
    """One of the ids must match, and every other option."""
    assert parked_request(message_id="m").matches(selection_from_options(**options), NOW) is is_selected


def test_request_of_unknown_age_is_not_older_than_any_duration() -> None:
    """It may be new."""
    assert not parked_request(headers={}).matches(Selection(older_than=1.0), NOW)


def test_invalid_duration_and_all_with_ids_are_wrong_usage() -> None:
    """The messages name the problem."""
    with pytest.raises(typer.BadParameter, match="not a duration"):
        selection_from_options(None, older_than="soon")
    with pytest.raises(typer.BadParameter, match="cannot be combined"):
        selection_from_options(["r"], every=True)
