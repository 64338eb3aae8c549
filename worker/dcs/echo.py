"""A refusal may repeat what proved who calls. It goes no further: the service's words end in events and logs."""

import re
from dataclasses import replace
from typing import Final

from worker.dcs.message import Reply, Request

MASK: Final = b"***"
SHORTEST: Final = 8
"""Characters of a proof that is looked for: shorter ones, which only tests have, are words of the reply itself."""
_TOKENS: Final = ("X-Auth-Token", "X-Security-Token")
_SIGNED: Final = re.compile(r"(?:Access|Signature)=([^,\s]+)")


def without_echo(reply: Reply, request: Request) -> Reply:
    """The reply to `request`; unless it is a success, without the proof that the request carried."""
    if 200 <= reply.status < 300:
        return reply
    tokens = [request.headers[name] for name in _TOKENS if name in request.headers]
    signed = _SIGNED.findall(request.headers.get("Authorization", ""))
    body = reply.body
    for proof in (proof for proof in (*tokens, *signed) if len(proof) >= SHORTEST):
        for form in {proof, proof.replace("/", "\\/")}:  # as it is, and as some writers of JSON write it
            body = body.replace(form.encode(), MASK)
    return reply if body is reply.body else replace(reply, body=body)
