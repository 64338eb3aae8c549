"""Properties of events are written as the general encoder would."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from worker.rabbit import tolerance
from worker.rabbit.written import EventProperties

tolerance.install()
TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
NAMES = st.sampled_from(["cloudEvents:id", "cloudEvents:subject", "traceparent", "tracestate"])


def both(**values: Any) -> tuple[Basic.Properties, Basic.Properties]:
    """The same properties, to be written by either encoder."""
    given_: dict[str, Any] = {
        "content_type": "application/json",
        "delivery_mode": 2,
        "message_type": "t",
        "message_id": "m",
    }
    given_ |= values
    return EventProperties(**given_), Basic.Properties(**given_)


def read(properties: Basic.Properties) -> Basic.Properties:
    """What the other end reads."""
    header = ContentHeader()
    header.unmarshal(ContentHeader(body_size=1, properties=properties).marshal())
    return header.properties


@given(st.dictionaries(NAMES, TEXT | st.integers(0, 9) | st.none()), st.none() | TEXT)
def test_they_are_read_as_if_the_general_encoder_had_written_them(
    headers: dict[str, object], correlation_id: str | None
) -> None:
    """Whatever text came from a sender: the same is read, or the same is raised."""
    ours, general = both(headers=headers, correlation_id=correlation_id)
    try:
        expected = read(general)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
        with pytest.raises(type(error)):
            read(ours)
    else:
        assert read(ours) == expected


@pytest.mark.parametrize("changes", [{"correlation_id": "c" * 256}, {"message_id": "m" * 256}])
def test_what_is_too_long_is_refused(changes: dict[str, str]) -> None:
    """A short string that is none is not cut."""
    ours, general = both(headers={}, **changes)
    with pytest.raises(TypeError):
        general.marshal()
    with pytest.raises(TypeError):
        ours.marshal()


def test_usual_ones_are_the_same_bytes() -> None:
    """In the order that the general encoder writes headers in, nothing differs, and the fast way is taken."""
    headers = {"cloudEvents:id": "1", "cloudEvents:type": "größer"}
    ours, general = both(headers=headers, correlation_id="c")
    assert isinstance(ours, EventProperties)
    assert ours._written() == general.marshal()
