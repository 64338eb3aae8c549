"""The HTML page: complete, self-contained and escaped."""

import copy
import json
import re
from html import unescape
from typing import Any

from schemas.asyncapi import document
from schemas.html_page import page

HOSTILE = "<script>alert(1)</script>\"'&"


def cells(shown: str, message: str) -> dict[str, tuple[str, str]]:
    """Types and meaning of every field and header of a message, by path."""
    (article,) = re.findall(f'<article id="{message}">(.*?)</article>', shown, re.DOTALL)
    rows = re.findall(r"<tr><td><code>(.*?)</code>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", article)
    return {
        name + ("!" if mark else ""): (kind, unescape(re.sub("<[^>]*>", "", about))) for name, mark, kind, about in rows
    }


def hostile(value: Any, key: str = "") -> Any:
    """The same document with HTML in every text that the page only shows."""
    if isinstance(value, dict):
        return {name: hostile(member, name) for name, member in value.items()}
    if isinstance(value, list):
        return [hostile(member, key) for member in value]
    return HOSTILE if isinstance(value, str) and key not in ("$ref", "is", "action", "type", "format") else value


def test_page_has_every_field_at_every_depth() -> None:
    """With path, types, meaning and constraints; mandatory fields are marked."""
    shown = page(document())
    request, failed = cells(shown, "request"), cells(shown, "migrationFailed")

    assert request["task.vpc_id!"] == ("string", "VPC ID; not empty; at most 1024 characters")
    assert request["task.description"][0] == "string or null"
    assert request["request_id"][1].endswith("must match ^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")
    assert failed["error.status!"] == ("integer or null", "HTTP status; null if there was no answer")
    assert failed["violations[].field!"][0] == "string"
    assert failed["reason!"][1].endswith("poison")
    assert failed["cloudEvents:type!"][1] == "always dcs.migration.failed.v1"
    assert cells(shown, "parkedRequest")["x-last-sent-at"][0] == "date-time"
    assert cells(shown, "journal")["entries[].evidence"][1].startswith("What a failed call proves")


def test_page_has_exchanges_keys_queues_and_examples() -> None:
    """Every example is complete."""
    shown = unescape(re.sub("<[^>]*>", "", page(document())))
    assert "direct exchange dcs.migration, key create" in shown
    assert "Waits in: queue dcs.migration.requests" in shown
    assert "topic exchange dcs.migration.events, key migration.failed" in shown
    for message in document()["components"]["messages"].values():
        for example in message["examples"]:
            assert json.dumps(example["payload"], indent=2, ensure_ascii=False) in shown


def test_page_has_no_script_and_no_external_reference() -> None:
    """Text of the document is escaped."""
    harmless, shown = page(document()), page(hostile(copy.deepcopy(document())))
    assert re.findall(r'(?:src|href)="(.)', harmless) == ["#"] * harmless.count("<a ")
    tags = [re.findall(r"<(\w+)", re.sub(r"</?code>", "", html)) for html in (harmless, shown)]
    assert "script" not in tags[1]
    assert set(tags[0]) == set(tags[1]) | {"ul", "li"}
