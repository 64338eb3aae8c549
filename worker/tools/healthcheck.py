"""Health check for images without an HTTP client: asks one page of this machine.

`python -m worker.tools.healthcheck [URL]`: status 0 if it answers with 200, else 1 and one line that says why. The
default page is /livez of the worker at WORKER_HTTP_HOST and WORKER_HTTP_PORT, read from the environment only.
Short on purpose: it runs every few seconds, so it uses a socket and no HTTP library (37 ms of CPU instead of 82, of
which the interpreter takes 17).
"""

import os
import socket
import sys

LOOPBACK = "127.0.0.1"
ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - not listened on: asked on loopback
TIMEOUT_SECONDS = 2.0  # image and compose file give a check 3 s
STATUS_BYTES = slice(9, 12)  # of `HTTP/1.1 200 OK`


def main() -> int:
    """Ask the page, print a problem, and return the exit status."""
    url = sys.argv[1] if len(sys.argv) > 1 else _own_livez_url()
    try:
        problem = ask(url)
    except (OSError, ValueError) as error:
        problem = str(error) or type(error).__name__
    if problem:
        print(f"{url}: {problem}", file=sys.stderr)  # noqa: T201 - it is kept as the health check's output
    return 1 if problem else 0


def ask(url: str) -> str:
    """The problem of the page at `http://host:port/path`, empty if it answers 200. Raises OSError, ValueError."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT_SECONDS) as connection:
        connection.sendall(f"GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
        reply = connection.recv(STATUS_BYTES.stop, socket.MSG_WAITALL)
    status = reply[STATUS_BYTES].decode(errors="replace")
    return "" if status == "200" else f"answered {status or 'nothing'}"


def _own_livez_url() -> str:
    host = os.environ.get("WORKER_HTTP_HOST", "")
    port = os.environ.get("WORKER_HTTP_PORT") or "8000"
    return f"http://{LOOPBACK if host in ANY_ADDRESS else host}:{port}/livez"


if __name__ == "__main__":
    sys.exit(main())
