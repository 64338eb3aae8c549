"""SDK-HMAC-SHA256: equal to the vectors, and to the official SDK's signer run beside it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.dcs.auth.signing import Keys, canonical_path, canonical_query, encoded_path, sign

PROJECT = "0123456789abcdef0123456789abcdef"
HOST = "dcs.cn-north-4.myhuaweicloud.com"
ACCESS_KEY = "AKEXAMPLE0123456789A"
SECRET_KEY = "SKexample0123456789abcdefghijklmnopqrstu"
MOMENT = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
HEADERS = {"Host": HOST, "Content-Type": "application/json", "X-Project-Id": PROJECT}
BODY = (
    b'{"name":"dcs-migration-thrc","description":"Creating an online data migration task",'
    b'"vpc_id":"5e37b3be-950a-48e1-b498-65b63d336481","subnet_id":"40f15ed6-7f85-49d5-ba0e-65b940d4812c",'
    b'"security_group_id":"9df96622-24b7-4813-84b8-ab74552a21d7"}'
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)


@dataclass
class SdkKeys:
    """What the SDK's signer wants to know of credentials."""

    ak: str
    sk: str


def signed_by_the_sdk(method: str, path: str, query: list[tuple[str, str]], body: bytes, keys: Keys) -> tuple[str, str]:
    """Its Authorization header, and the URI that it sends."""
    from huaweicloudsdkcore.sdk_request import SdkRequest
    from huaweicloudsdkcore.signer.signer import Signer

    headers = {**HEADERS, "X-Sdk-Date": "20240102T030405Z"}
    if keys.security_token is not None:
        headers["X-Security-Token"] = keys.security_token
    request: Any = SdkRequest(
        method=method,
        schema="https",
        host=HOST,
        resource_path=path,
        query_params=query,
        header_params=headers,
        body=body,
    )
    Signer(SdkKeys(keys.access_key, keys.secret_key)).sign(request)
    return request.header_params["Authorization"], request.uri


def written(query: list[tuple[str, str]]) -> str:
    """A query with everything encoded."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)


def signature(added: dict[str, str]) -> str:
    """The last part of the Authorization header."""
    return added["Authorization"].rpartition("Signature=")[2]


def test_the_create_vector_holds() -> None:
    """Signed headers and signature of a create call are the official ones, down to the spelling of the header."""
    url = f"https://{HOST}/v2/{PROJECT}/migration/instance"

    added = sign("POST", url, HEADERS, BODY, Keys(ACCESS_KEY, SECRET_KEY), MOMENT)

    assert added == {
        "X-Sdk-Date": "20240102T030405Z",
        "Authorization": f"SDK-HMAC-SHA256 Access={ACCESS_KEY}, "
        "SignedHeaders=content-type;host;x-project-id;x-sdk-date, "
        "Signature=564663a8290e857a466e89de5bf5eb106cc4709874509d28b3f9992fe242de55",
    }


def test_the_list_vector_holds() -> None:
    """A list call with temporary keys: the security token is sent and signed, the query sorted and encoded."""
    url = f"https://{HOST}/v2/{PROJECT}/migration-tasks?offset=0&limit=100&name=dcs-mig_~%C3%A9%20x"

    added = sign("GET", url, HEADERS, b"", Keys(ACCESS_KEY, SECRET_KEY, "STSTOKENexample=="), MOMENT)

    assert added["X-Security-Token"] == "STSTOKENexample=="
    assert "SignedHeaders=content-type;host;x-project-id;x-sdk-date;x-security-token," in added["Authorization"]
    assert signature(added) == "a6b9383bcec160b19ad666f85fd6763c766da12e5c08a3ae50adcc58329029b4"


@settings(max_examples=400)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "post"]),
    segments=st.lists(TEXT, max_size=5),
    query=st.lists(st.tuples(NAME, TEXT), max_size=5),
    body=st.one_of(st.just(b""), st.binary(max_size=200), TEXT.map(str.encode)),
    keys=st.builds(Keys, VISIBLE, VISIBLE, st.none() | VISIBLE),
)
def test_equal_to_the_official_signer(
    method: str, segments: list[str], query: list[tuple[str, str]], body: bytes, keys: Keys
) -> None:
    """The SDK signs 400 generated requests in the same way: any character in path and query, any body."""
    path = "/v2/" + "/".join(quote(segment, safe="") for segment in segments)
    url = f"https://{HOST}{path}" + (f"?{written(query)}" if query else "")

    added = sign(method, url, HEADERS, body, keys, MOMENT)

    expected, uri = signed_by_the_sdk(method, path, query, body, keys)
    assert added["Authorization"] == expected
    sent = encoded_path(path) + (f"?{canonical_query(written(query))}" if query else "")
    assert sent == uri


@pytest.mark.parametrize("character", [chr(number) for number in range(256)])
def test_every_byte_alone(character: str) -> None:
    """Each of the first 256 characters, in path and query, is signed as the SDK signs it."""
    path, query = f"/v2/x{quote(character, safe='')}y", [("name", f"a{character}b")]

    added = sign("GET", f"https://{HOST}{path}?{written(query)}", HEADERS, b"", Keys("AK", "SK"), MOMENT)

    assert added["Authorization"] == signed_by_the_sdk("GET", path, query, b"", Keys("AK", "SK"))[0]


def test_signing_is_a_function_of_its_arguments() -> None:
    """The same request at the same moment has the same signature; a second later it has another one."""
    arguments = ("GET", f"https://{HOST}/", HEADERS, b"", Keys("AK", "SK"))

    assert sign(*arguments, MOMENT) == sign(*arguments, MOMENT + 0.9)
    assert signature(sign(*arguments, MOMENT)) != signature(sign(*arguments, MOMENT + 1))


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("b=2&a=2&a=1&c", "a=1&a=2&b=2&c="),
        ("name=a+b", "name=a%2Bb"),
        ("name=%7e!%21", "name=~%21%21"),
        ("a=b=c", "a=b%3Dc"),
        ("name=%FF%C3", "name=%FF%C3"),
        ("name=%zz%", "name=%25zz%25"),
        ("", ""),
        ("&", ""),
    ],
)
def test_the_query_has_one_canonical_form(query: str, canonical: str) -> None:
    """Sorted by name and value, a plus sign is no blank, and bytes that are no UTF-8 are kept."""
    assert canonical_query(query) == canonical
    assert canonical_query(canonical) == canonical


def test_an_encoded_slash_is_sent_as_it_is() -> None:
    """The signature treats it as a slash, like the SDK, but the path that is sent keeps its segments."""
    assert canonical_path("/a%2fb") == "/a/b/"
    assert encoded_path("/a%2fb/") == "/a%2Fb/"


@pytest.mark.parametrize("wrong", ["", "a b", "a\nb", "é", "a\x00"])
def test_keys_must_fit_into_a_header(wrong: str) -> None:
    """Any of the three values with another character than visible ASCII is refused without being shown."""
    for keys in ((wrong, "S", None), ("A", wrong, None), ("A", "S", wrong)):
        with pytest.raises(ValueError, match="keys must consist of visible ASCII") as refused:
            Keys(*keys)
        assert not wrong or wrong not in str(refused.value)


def test_keys_are_not_shown() -> None:
    """Neither their repr nor that of what holds them has a key in it."""
    assert repr([Keys("AKEXAMPLE", "secret", "token")]) == "[<Keys>]"
