"""What is signed is what is sent: the request line goes out in the encoding of the signature.

Given a URL as text, aiohttp decodes what needs no encoding (`%3A` becomes `:`), and a gateway that compares
bytes would refuse the signature (https://github.com/aio-libs/aiohttp/issues/7341).
"""

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from worker.dcs.signing import canonical_query, encoded_path

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse


_PLAIN: Final = re.compile(r"[A-Za-z0-9/_.~-]+")


def sent(url: str) -> str:
    """The URL as it is sent: every reserved character of path and query encoded, the query sorted."""
    parts = urlsplit(url)
    return parts._replace(path=encoded_path(parts.path), query=canonical_query(parts.query)).geturl()


async def exactly(request: "ClientRequest", handler: "ClientHandlerType") -> "ClientResponse":
    """Middleware of aiohttp's client session: the URL is sent as `sent` writes it."""
    url = request.url
    if _PLAIN.fullmatch(url.raw_path_qs):
        return await handler(request)
    request.url = url.build(
        scheme=url.scheme,
        authority=url.raw_authority,
        path=encoded_path(url.raw_path),
        query_string=canonical_query(url.raw_query_string),
        encoded=True,
    )
    return await handler(request)
