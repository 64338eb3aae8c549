"""Texts of error answers: throttle policies, locked keys, clock skew."""

import pytest

from worker.policy.call_result import Condition, NamedLimit
from worker.policy.error_text import ErrorText, clock_skew, hint, of_unknown_party, read_text

DAY = 86400.0
PROJECT, REGION = Condition.PROJECT_THROTTLED, Condition.REGION_THROTTLED


@pytest.mark.parametrize(
    ("message", "calls", "window", "condition"),
    [
        ("policy user over ratelimit,limit:5,time:1 second", 5, 1.0, PROJECT),
        ("Policy USER over ratelimit, limit: 5, time: 1 second", 5, 1.0, PROJECT),
        ("policy project over ratelimit,limit:5,time:1 second", 5, 1.0, PROJECT),
        ("policy ip over ratelimit,limit:10,time:1 minute", 10, 60.0, REGION),
        ("policy api over ratelimit,limit:1,time:2 minutes", 1, 120.0, REGION),
        (
            "The throttling threshold has been reached: policy ip over ratelimit,limit:5,time:1 hour",
            5,
            3600.0,
            REGION,
        ),
        ("limit : 10 , time : 3 SECONDS", 10, 3.0, REGION),
        ("limit:5,time:1 day", 5, DAY, REGION),
        ("limit:5,time:999999 day", 5, DAY, REGION),
        ("limit:0,time:0 second", 1, 1.0, REGION),
        ("Too many requests, exceeded rate limit is 30 times per minute.", 30, 60.0, REGION),
        ("rate limit exceeded: 60/minute", 60, 60.0, REGION),
        ("100 requests per 10 seconds", 100, 10.0, REGION),
        ("policy user over ratelimit: 20/second", 20, 1.0, PROJECT),
    ],
)
def test_a_throttle_is_read_from_its_message(message: str, calls: int, window: float, condition: Condition) -> None:
    """Limit, window and whom it is meant for are read; a window is never nothing and never above a day."""
    assert read_text(429, message) == ErrorText(condition, NamedLimit(calls, window))


@pytest.mark.parametrize(
    "message",
    [
        None,
        "",
        "too many requests",
        "limit:5",
        "time:1 second",
        "limit:many,time:1 second",
        "limit:5,time:1 fortnight",
        "page 1/2",
        "1/secret",
    ],
)
def test_other_messages_name_no_throttle(message: str | None) -> None:
    """A message without limit and window names no throttle."""
    assert read_text(429, message) == ErrorText()


@pytest.mark.parametrize(("policy", "condition"), [("user", PROJECT), ("project", PROJECT), ("ip", REGION)])
def test_policy_without_window_says_whose_limit_it_is(policy: str, condition: Condition) -> None:
    """The scope is read from the policy alone; a limit without a window is no rate."""
    assert read_text(429, f"policy {policy} over ratelimit,limit:10") == ErrorText(condition)


def test_throttle_text_counts_only_with_429() -> None:
    """A text that names a limit is no throttle under another status."""
    assert read_text(400, "policy user over ratelimit,limit:5,time:1 second") == ErrorText()


@pytest.mark.parametrize("skew", [901.0, -901.0])
def test_refused_signature_with_wrong_clock_is_clock_skew(skew: float) -> None:
    """A 401 whose Date header is more than 15 minutes away is explained by the clock."""
    assert read_text(401, "verify aksk signature fail", skew) == ErrorText(Condition.CLOCK_SKEW)


@pytest.mark.parametrize(("status", "skew"), [(401, 900.0), (401, None), (403, 5000.0)])
def test_small_or_unknown_skew_explains_nothing(status: int, skew: float | None) -> None:
    """Within the tolerance, without a date, and under another status the clock is no condition."""
    assert read_text(status, "refused", skew) == ErrorText()


def test_locked_key_is_read_before_clock_skew() -> None:
    """The lock time of an access key is a condition of its own, whatever the clock says."""
    text = "Incorrect IAM authentication information: AK access failed to reach the limit, forbidden: ..."
    assert read_text(401, text, 5000.0) == ErrorText(Condition.KEY_LOCKED)


STALE = "calc aksk signature fail:signature expired, signature time:{},server time:{}"


@pytest.mark.parametrize(
    ("signed", "answered", "seconds"),
    [
        ("20260528T092752Z", "20260528T094410Z", -978.0),
        ("20260528T094410Z", "20260528T092752Z", 978.0),
        ("20269928T094410Z", "20260528T092752Z", None),
        ("yesterday", "today", None),
    ],
)
def test_times_in_a_refusal_name_the_skew(signed: str, answered: str, seconds: float | None) -> None:
    """A gateway that sends no Date header names both times in its text."""
    assert clock_skew(STALE.format(signed, answered), 7.0) == (7.0 if seconds is None else seconds)


def test_other_texts_name_no_skew() -> None:
    """Nor does no text."""
    assert (clock_skew(None, None), clock_skew("server time:20260528T094410Z", 7.0)) == (None, 7.0)


@pytest.mark.parametrize(
    ("status", "code", "message", "words"),
    [
        (401, "APIGW.0301", "ak AKEXAMPLE not exist", "WORKER_SECURITY_TOKEN"),
        (401, "APIGW.0301", "Get secretKey failed", "WORKER_SECURITY_TOKEN"),
        (401, "APIG.0307", "token must be updated", "another region"),
        (401, "DCS.1001", None, ""),
        (400, "APIGW.0301", "ak AKEXAMPLE not exist", ""),
    ],
)
def test_refused_credentials_come_with_a_hint(status: int, code: str, message: str | None, words: str) -> None:
    """What an operator should check, where the service's own text does not say it."""
    assert words in hint(status, code, message)
    assert bool(words) is bool(hint(status, code, message))


@pytest.mark.parametrize(
    ("status", "headers", "text", "expected"),
    [
        (403, {"server": "s", "via": "v"}, "text", "HTTP 403 from neither DCS nor its gateway (server s, via v): text"),
        (403, {}, None, "HTTP 403 from neither DCS nor its gateway (no name)"),
        (503, {"server": "elb"}, None, "HTTP 503 (server elb)"),
        (503, {}, "busy", "HTTP 503: busy"),
        (451, {"via": "\x1b[31m"}, None, "HTTP 451 from neither DCS nor its gateway (via ?[31m)"),
    ],
)
def test_answer_without_a_code_names_its_senders(
    status: int, headers: dict[str, str], text: str | None, expected: str
) -> None:
    """Each text stands once, and nothing that a terminal would act on is kept."""
    assert of_unknown_party(status, headers, text) == expected
