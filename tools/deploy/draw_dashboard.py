"""Draws the dashboard over an hour in small: `python -m tools.deploy.draw_dashboard FILE.png`."""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tools.deploy.dashboard_hour import Hour, play
from tools.deploy.grafana_packages import bundle
from tools.deploy.promql_queries import DASHBOARD, VALUES
from tools.harness.browser import browsing

ACT = 6.0
"""Seconds that each of the ten acts of the hour lasts: they stand for minutes."""
SIZE = (1480, 760)
PICTURE_ROWS = 2
PATIENCE = 90.0
PAGE = """<!doctype html><meta charset=utf-8><link rel=icon href=data:,><link rel=stylesheet href=draw.css>
<style>
html { font-size: 14px }
body { margin: 0; font-family: Inter, DejaVu Sans, sans-serif; background: #111217 }
</style>
<div id=root></div><script>Object.assign(window, %s)</script><script type=module src=draw.js></script>
"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of a folder's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@dataclass(frozen=True)
class Drawing:
    """What became of it: the words on the page, what the browser complained of, and which addresses it asked."""

    words: str
    complaints: list[str]
    requested: list[str]


async def draw(hour: Hour, file: Path, rows: int) -> Drawing:
    """Draw the first `rows` rows of the dashboard into `file`, opened."""
    folder = bundle()
    told = {
        "DASHBOARD": json.loads(DASHBOARD.read_text("utf-8")),
        "PROMETHEUS": hour.prometheus.url,
        "FROM": int(hour.begun),
        "TO": int(hour.ended),
        "VALUES": VALUES,
        "ROWS": rows,
    }
    (folder / "index.html").write_text(PAGE % json.dumps(told).replace("</", "<\\/"), "utf-8")
    with serving(folder) as url:
        async with browsing() as page:
            await page.open(f"{url}/index.html", SIZE)
            await page.until("document.body.dataset.ready", PATIENCE)
            await page.screenshot(file)
            return Drawing(await page.value("document.body.innerText"), page.complaints, page.requested)


def main(file: Path) -> None:
    """Play the hour and draw it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hour = asyncio.run(play(folder, ACT, stack))
        asyncio.run(draw(hour, file, PICTURE_ROWS))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
