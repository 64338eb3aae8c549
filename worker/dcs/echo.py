"""A refusal may repeat what proved who calls. It goes no further: the service's words end in events and logs."""

import re
from typing import Final

import httpx2

MASK: Final = b"***"
SHORTEST: Final = 8
"""Characters of a proof that is looked for: shorter ones, which only tests have, are words of the reply itself."""
_TOKENS: Final = ("X-Auth-Token", "X-Security-Token")
_SIGNED: Final = re.compile(r"(?:Access|Signature)=([^,\s]+)")


def without_echo(answer: httpx2.Response) -> bytes:
    """The body of a refusal, without the proof that its request carried."""
    headers, body = answer.request.headers, answer.content
    tokens = [headers[name] for name in _TOKENS if name in headers]
    signed = _SIGNED.findall(headers.get("Authorization", ""))
    for proof in (proof for proof in (*tokens, *signed) if len(proof) >= SHORTEST):
        for form in {proof, proof.replace("/", "\\/")}:  # as it is, and as some writers of JSON write it
            body = body.replace(form.encode(), MASK)
    return body
