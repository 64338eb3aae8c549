"""What is signed is what is sent: the request line goes out in the encoding of the signature.

Given a URL as text, aiohttp decodes what needs no encoding (`%3A` becomes `:`), and a gateway that compares
bytes would refuse the signature (https://github.com/aio-libs/aiohttp/issues/7341).
"""

from urllib.parse import urlsplit

from worker.dcs.auth.signing import canonical_query, encoded_path


def sent(url: str) -> str:
    """The URL as it is sent: every reserved character of path and query encoded, the query sorted."""
    parts = urlsplit(url)
    return parts._replace(path=encoded_path(parts.path), query=canonical_query(parts.query)).geturl()
