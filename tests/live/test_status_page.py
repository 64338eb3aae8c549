"""The status page of a real worker in a real browser: what people see of it, and that it keeps itself up to date."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tools.harness.browser import DESKTOP, PHONE, Page, browsing, chromium
from tools.harness.running_system import PROJECT, TOKEN, RunningSystem, WorkerProcess, request, until

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium: apt-get install chromium")

HOSTILE = "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'>\"'&"
REFUSAL = json.dumps({"error_code": "DCS.4013", "error_msg": f"The name {HOSTILE} is invalid."})


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A page of a browser of this test's own."""
    async with browsing() as page:
        yield page


def url(worker: WorkerProcess) -> str:
    """Where a worker's page is."""
    return f"http://127.0.0.1:{worker.http_port}/"


async def busy(system: RunningSystem, worker: WorkerProcess) -> None:
    """Let some requests succeed, some fail with hostile words of the service, and one hang."""
    names = [f"fine-{number}" for number in range(20)]
    scripts = {f"bad-{number}": [f"reply 400 {REFUSAL}"] for number in range(3)} | {"hanging": ["hang"]}
    await system.fake_dcs.apply({"scripts": scripts})
    for name in (*names, *(name for name in scripts if name != "hanging")):
        await system.publish(request(name, name))
    await system.answered(23)
    await system.publish(request(HOSTILE, "odd-name"))
    await system.answered(24)
    await system.publish(request("hanging", "hanging-1"))
    await until(lambda: worker.metric("dcs_worker_in_flight_requests") == 1, 10, worker.explain)


async def text(page: Page, selector: str) -> str:
    """What is seen of an element."""
    return str(await page.value(f"document.querySelector({selector!r}).innerText"))


async def test_page_shows_state_of_worker(vhost: str, tmp_path: Path, page: Page) -> None:
    """Desktop and phone, light and dark: the whole state, no script from data, nothing fetched from elsewhere."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(WORKER_DCS_TIMEOUT=30, WORKER_SETTLE=40, WORKER_RETRY_DELAYS="1,60")
        await worker.ready()
        await busy(system, worker)
        grounds = set()
        for size in (DESKTOP, PHONE):
            for dark in (False, True):
                await page.open(url(worker), size, dark=dark)
                assert await page.value("document.documentElement.scrollWidth <= innerWidth")
                grounds.add(await page.value("getComputedStyle(document.body).backgroundColor"))
                await page.screenshot(tmp_path / f"{size[0]}-{dark}.png")
        assert len(grounds) == 2

        assert await text(page, "h1") == "Healthy"
        hanging = await text(page, "#in-flight")
        assert "hanging-1" in hanging
        assert PROJECT in hanging
        failures = await text(page, "#failures")
        assert "rejected\nDCS.4013\n3\n" in failures.replace("\t", "\n")
        assert "dcs-worker explain bad-" in failures
        assert HOSTILE in failures
        assert "rejected" in await text(page, "#faults")
        assert "https" not in await text(page, "#regions")
        assert system.fake_dcs.url in await text(page, "#regions")
        assert (await text(page, "#connections")).count("up") == 2
        assert "21" in await text(page, "#outcomes")
        assert await page.value("typeof window.hacked") == "undefined"
        assert page.complaints == []
        assert set(page.requested) == {url(worker)}
        whole = worker.get("/")[1]
        for secret in (TOKEN, "guest:guest", "Creating an online"):
            assert secret not in whole


async def test_page_updates_without_reload(vhost: str, tmp_path: Path, page: Page) -> None:
    """New figures appear, opened parts stay open, draining and a missing answer are shown."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker(WORKER_DCS_TIMEOUT=30, WORKER_SETTLE=40, WORKER_RETRY_DELAYS="1,60", WORKER_DRAIN=8)
        await worker.ready()
        await page.open(url(worker))
        await page.value("window.mine = 1; document.querySelector('details').open = true")
        await busy(system, worker)
        await page.until("document.querySelector('#in-flight').innerText.includes('hanging-1')", 10)
        await page.until("document.querySelector('#outcomes').innerText.includes('succeeded')", 15)
        assert await page.value("window.mine") == 1
        assert await page.value("document.querySelector('details').open")

        worker.process.send_signal(signal.SIGTERM)
        await page.until("document.querySelector('h1').innerText === 'Draining'", 7)
        assert await page.value("document.title") == "Draining · dcs-worker"
        assert await worker.ended() == 0
        await page.until("getComputedStyle(document.querySelector('#lost')).display === 'block'", 10)
        assert await page.value("window.mine") == 1


async def test_page_reloads_itself_without_scripts(vhost: str, tmp_path: Path, page: Page) -> None:
    """A browser without scripts shows the same, and reloads every few seconds."""
    async with RunningSystem(vhost, tmp_path) as system:
        worker = system.worker()
        await worker.ready()
        await page.open(url(worker), scripts=False)
        assert await text(page, "h1") == "Healthy"
        async with asyncio.timeout(15):
            while page.requested.count(url(worker)) < 2:
                await page.value("document.readyState")  # what the browser did meanwhile comes with the answer
                await asyncio.sleep(0.1)
        await page.until("document.readyState === 'complete'")
        assert await text(page, "h1") == "Healthy"
