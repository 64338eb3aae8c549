"""Outages, quotas, slowness and crowds in short form, and what is said about them: real workers and a real broker.

The long forms, with the numbers to be reached, are `make flow-storm`. Here ratios and orders are looked at, which
hold on a busy machine as well.
"""

import json
from pathlib import Path

from schemas import names
from tests.live.conftest import Vhosts
from tools.harness.running_system import RunningSystem, request, until
from tools.storms.throttle_storm import Limits, latency, memory, outage, quota, tenants


async def test_outage_is_survived_with_few_calls(vhost: str, tmp_path: Path) -> None:
    """A call per second at most, nothing parked, no retry level used by waiting, and back within 10 s."""
    await outage(vhost, tmp_path, requests=300, prefetch=16, seconds=4)


async def test_unannounced_quota_is_learnt(vhost: str, tmp_path: Path) -> None:
    """Most of it is used and little refused, by two replicas; and so is a lower one soon afterwards."""
    await quota(vhost, tmp_path, Limits(40, 20, seconds=6, settled=2, followed=2.5, used=0.6, refused=0.25))


async def test_slower_service_keeps_throughput(vhost: str, tmp_path: Path) -> None:
    """Throughput follows, and no call times out by our own load."""
    await latency(vhost, tmp_path, seconds=6, rate=40, least=0.3, deadline=5)


async def test_throttled_project_lets_others_pass(vhosts: Vhosts, tmp_path: Path) -> None:
    """It would take a minute; nine projects behind it take little longer than alone."""
    await tenants(vhosts.take, tmp_path, crowd=300, each=5, slow=0.1, slack=5)


async def test_many_waiting_requests_use_little_memory(vhost: str, tmp_path: Path) -> None:
    """They stay in the broker."""
    await memory(vhost, tmp_path, requests=3000, seconds=1)


async def test_refused_credentials_are_named_on_page_and_log(vhost: str, tmp_path: Path) -> None:
    """Nothing is consumed while IAM refuses the password: readiness, metric and log say so."""
    async with RunningSystem(vhost, tmp_path) as system:
        auth = system.fake_dcs.settings.auth
        await system.fake_dcs.apply({"auth": {"mode": "iam", "password": "changed"}})
        iam = {"ENDPOINT": system.fake_dcs.url, "USER": auth.user, "DOMAIN": auth.domain}
        settings = {f"WORKER_IAM_{name}": value for name, value in iam.items()}
        password = auth.password.get_secret_value()
        worker = system.worker(WORKER_AUTH_TOKEN=None, WORKER_IAM_PASSWORD=password, WORKER_PREFETCH=2, **settings)
        await worker.ready()
        for number in range(8):
            await system.publish(request(f"r{number}"))
        await until(
            lambda: "The credentials are refused for every call: IAM refuses" in worker.get("/readyz")[1],
            20,
            worker.explain,
        )
        assert (worker.get("/readyz")[0], json.loads(worker.get("/readyz")[1])["status"]) == (200, "failing")
        assert worker.metric("dcs_worker_consumption_paused", 'reason="credentials"') == 1
        (changed,) = [line for line in worker.log() if line["event"] == "credentials.rejected"]
        assert (changed["level"], changed["error"].startswith("IAM refuses the password")) == ("error", True)
        assert await system.depth(names.REQUEST_QUEUE) > 0
        assert not system.events


async def test_full_projects_wait_in_long_retry_queue(vhost: str, tmp_path: Path) -> None:
    """A quota, a zone or a subnet that is full: the longest delay of the schedule, at once and without another call."""
    codes = ("4035", "4036", "4039", "4054", "4911")
    scripts = {code: [f"error 400 DCS.{code} retry after 1"] for code in codes}
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"scripts": scripts})
        worker = system.worker(WORKER_RETRY_DELAYS="1,2,3,600", WORKER_RECONCILE="ambiguous")
        await worker.ready()
        for code in codes:
            await system.publish(request(code))
        await until(lambda: worker.metric("dcs_worker_deliveries_settled_total", 'outcome="retried"') == 5, 20)
        assert await system.depth(names.retry_queue(names.REQUEST_QUEUE, 600)) == 5
        assert len(system.fake_dcs.calls) == 5


async def test_refused_and_full_projects_let_others_pass(vhost: str, tmp_path: Path) -> None:
    """Requests of a refused or full project are postponed; others pass; readiness names the reason."""
    scripts = {"refused": ["error 403 DCS.2003"], "full": ["error 400 DCS.4035"]}
    async with RunningSystem(vhost, tmp_path) as system:
        await system.fake_dcs.apply({"project_scripts": scripts})
        worker = system.worker(WORKER_PREFETCH=8, WORKER_RETRY_DELAYS="600,601", WORKER_RECONCILE="ambiguous")
        await worker.ready()
        for project in scripts:
            for number in range(100):
                await system.publish(request(f"{project}-{number}", project_id=project))
        await system.publish(request("last", request_id="last", project_id="other"))
        await until(lambda: "last" in system.by_request(), 30, worker.explain)
        parked = await system.depth(names.parked_queue(names.REQUEST_QUEUE))
        assert parked == len(system.by_request()) - 1 <= 20
        assert len(system.fake_dcs.calls) <= 2 * 20 + 1
        ready = json.loads(worker.get("/readyz")[1])
        assert ready["regions"]["cn-north-4"]["held_projects"] == "refused (credentials), full (quota)"
        assert "refused: DCS refuses it (403 DCS.2003: " in ready["conditions"]["degraded"]
        assert "full: DCS refuses it (400 DCS.4035: " in ready["conditions"]["degraded"]
        held = [line["reason"] for line in worker.log() if line["event"] == "project.paused"]
        assert held == ["credentials", "quota"]
