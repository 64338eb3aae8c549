"""Call log of the fake DCS: recorded headers."""

from worker.tools.fake_dcs.state import redact_headers


def test_recorded_headers_have_no_secret() -> None:
    """A token becomes a fingerprint, a signature too; access key and signed names stay readable."""
    kept = redact_headers(
        {
            "X-Auth-Token": "secret-token",
            "X-Security-Token": "secret-sts",
            "Authorization": "SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=5ec4e7",
            "Accept": "*/*",
        }
    )

    assert "secret" not in str(kept)
    assert "5ec4e7" not in str(kept)
    assert kept["Authorization"].startswith("SDK-HMAC-SHA256 Access=AK, SignedHeaders=host, Signature=***")
    assert kept["Accept"] == "*/*"
    assert kept["X-Auth-Token"] != redact_headers({"X-Auth-Token": "another-token"})["X-Auth-Token"]
