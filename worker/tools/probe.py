"""Asks a page of this machine whether all is well, for health checks in images that have no HTTP client.

`python -m worker.tools.probe [URL]`: status 0 if it answers with 200, else 1 and one line that says why. The page is
/livez of the worker, where WORKER_HTTP_HOST and WORKER_HTTP_PORT say; set in no other place than the environment.
It runs every few seconds for years, so it loads little: a socket, and no HTTP library (37 ms of CPU instead of
82, of which the interpreter takes 17).
"""

import os
import socket
import sys

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - addresses to listen on, of which one can be called
PATIENCE = 2.0  # seconds; image and compose file give a check three
STATUS = slice(9, 12)  # of `HTTP/1.1 200 OK`


def main() -> int:
    """Ask, complain if need be, and return the exit status."""
    url = sys.argv[1] if len(sys.argv) > 1 else _livez()
    try:
        complaint = ask(url)
    except (OSError, ValueError) as error:
        complaint = str(error) or type(error).__name__
    if complaint:
        print(f"{url}: {complaint}", file=sys.stderr)  # noqa: T201 - it is kept as the health check's output
    return 1 if complaint else 0


def ask(url: str) -> str:
    """What is wrong with the page at `http://host:port/path`, empty if nothing is. Raises OSError, ValueError."""
    place, _, path = url.removeprefix("http://").partition("/")
    host, _, port = place.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as wire:
        wire.sendall(f"GET /{path} HTTP/1.0\r\nHost: {place}\r\n\r\n".encode())
        answer = wire.recv(STATUS.stop, socket.MSG_WAITALL)
    status = answer[STATUS].decode(errors="replace")
    return "" if status == "200" else f"answered {status or 'nothing'}"


def _livez() -> str:
    host = os.environ.get("WORKER_HTTP_HOST", "")
    port = os.environ.get("WORKER_HTTP_PORT") or "8000"
    return f"http://{LOOPBACK if host in EVERYWHERE else host}:{port}/livez"


if __name__ == "__main__":
    sys.exit(main())
