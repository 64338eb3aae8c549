"""JSON records of parked messages."""

import json

from schemas import names
from tests.unit.cli.parked.parked_messages import HEADERS, parked_request
from worker.cli.parked.record import record_line


def test_record_has_body_headers_and_properties_of_any_type() -> None:
    """It is one line of JSON; bytes that are not UTF-8 are base64."""
    headers = {"bytes": b"\xff", "list": [1, {"deep": b"\xfe"}], "none": None, names.DELIVERY_COUNT: 3}
    (text,) = record_line(parked_request(b"\xff", {**HEADERS, **headers}, message_id="m", priority=0)).splitlines()

    record = json.loads(text)
    assert record["body"] == {"base64": "/w=="}
    assert record["headers"]["list"] == [1, {"deep": {"base64": "/g=="}}]
    assert record["headers"][names.LAST_SENT_AT] == HEADERS[names.LAST_SENT_AT]
    assert names.DELIVERY_COUNT not in record["headers"]
    assert record["properties"] == {"message_id": "m", "priority": 0}
