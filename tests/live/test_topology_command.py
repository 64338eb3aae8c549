"""`topology apply` and `topology check` against a real broker."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from tests.fakes.servers import RabbitMqServer
from tests.live.doctor_command import PASSWORD, declare_retry_queue, vhost_of
from tools.harness.parked_queue import ParkedQueueSetup, settings

ROOT = Path(__file__).parents[2]


def _apply(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker", "topology", "apply", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WORKER_AMQP_URL": url}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_apply_declares_missing_objects_once(vhost: str, tmp_path: Path) -> None:
    """On an empty vhost, and on one where all of it is there, it ends with 0."""
    for options in ((), ("--json",)):
        done = _apply(vhost, tmp_path, *options)
        assert (done.returncode, done.stderr) == (0, "")

    assert json.loads(done.stdout) == {"declared": True, "differences": [], "refused": []}


def test_apply_says_what_the_user_may_not_declare(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """All of it exists, and nothing was compared: exit status 0, but not a word of having declared it."""
    assert _apply(vhost, tmp_path).returncode == 0
    name = f"reader-{vhost_of(vhost)}"
    rabbit.run_ctl("add_user", name, PASSWORD)
    rabbit.run_ctl("set_permissions", "-p", vhost_of(vhost), name, "^$", "^$", ".*")
    url = vhost.replace("guest:guest", f"{name}:{PASSWORD}")

    plain, machine = _apply(url, tmp_path), _apply(url, tmp_path, "--json")

    assert (plain.returncode, plain.stdout, machine.returncode, machine.stderr) == (0, "", 0, "")
    found = json.loads(machine.stdout)
    assert (found["declared"], found["differences"]) == (False, [])
    assert "binding 'dcs.migration' to 'dcs.migration.requests'" in found["refused"]
    assert "queue 'dcs.migration.requests.parked'" in found["refused"]
    assert plain.stderr.startswith("Not declared, because this user may not; ")
    assert all(item in plain.stderr for item in found["refused"])


def test_other_delay_of_queue_is_a_readable_difference(vhost: str, tmp_path: Path) -> None:
    """A retry queue of another message TTL: exit status 78; the line names queue, present and expected value."""
    declare_retry_queue(vhost, 60, 70_000)

    plain, machine = _apply(vhost, tmp_path), _apply(vhost, tmp_path, "--json")

    assert (plain.returncode, plain.stdout, machine.returncode, machine.stderr) == (78, "", 78, "")
    (line,) = plain.stderr.splitlines()
    assert line.startswith("queue 'dcs.migration.requests.retry.60s': ")
    assert "x-message-ttl is 70000, but should be 60000" in line
    assert json.loads(machine.stdout) == {"declared": False, "differences": [line], "refused": []}


def test_each_difference_has_one_line(vhost: str, tmp_path: Path) -> None:
    """Two queues that differ are two lines."""
    for seconds in (60, 300):
        declare_retry_queue(vhost, seconds, 70_000)

    done = _apply(vhost, tmp_path)

    assert (done.returncode, len(done.stderr.splitlines())) == (78, 2)


def test_check_reports_missing_and_different_objects(vhost: str, tmp_path: Path) -> None:
    """Nothing declared: 78 and the command that helps. All declared: 0. One delay changed: 78."""
    lot = ParkedQueueSetup(vhost, {**settings(vhost, tmp_path), "WORKER_RETRY_DELAYS": "10,60"})
    nothing, again = lot.run("topology", "check"), lot.run("topology", "check", "--json")
    lot.run("topology", "apply")
    good = lot.run("topology", "check")
    declare_retry_queue(vhost, 90, 70_000)
    differs = lot.run("topology", "check", "--json", WORKER_RETRY_DELAYS="10,60,90")

    assert (nothing.status, nothing.errors) == (78, "")
    assert "missing: exchange dcs.migration, exchange dcs.migration.events, queue" in nothing.output
    assert "dcs-worker topology apply" in nothing.output
    assert (again.status, again.answer["status"]) == (78, 78)
    assert (good.status, good.output.count("exists, as configured")) == (0, 6)
    (wrong,) = [one for one in differs.answer["checks"] if one["result"] == "failed"]
    assert (differs.status, wrong["subject"]) == (78, "dcs.migration.requests.retry.90s")
    assert "WORKER_RETRY_DELAYS" in wrong["remedy"]


def test_check_names_queue_that_left_the_schedule_once_it_is_empty(vhost: str, tmp_path: Path) -> None:
    """Version 0.1.0 numbered its retry queues; one with requests drains by its TTL and is not to be deleted yet."""
    lot = ParkedQueueSetup(vhost, settings(vhost, tmp_path))
    lot.run("topology", "apply")
    old = [f"dcs.migration.requests.retry.{number}" for number in (1, 9, 10)]
    lot.declare_queues(*old, with_message=old[1])
    found = lot.run("topology", "check", "--json")

    assert found.status == 0
    (left,) = [check for check in found.answer["checks"] if check["result"] == "warning"]
    assert left["subject"] == old[0]
    assert f"rabbitmqctl delete_queue -p {vhost.rpartition('/')[2]} {old[0]}" in left["remedy"]


LEFT = ("dcs.migration.requests.retry.90s", "dcs.migration.requests.retry.0.5s")


class _ManagementApi(BaseHTTPRequestHandler):
    """A management API whose counts are old: all queues are empty, and nothing is bound."""

    def do_GET(self) -> None:
        """The queues, or the bindings of an exchange."""
        empty = [{"name": name, "messages": 0} for name in LEFT]
        body = json.dumps(empty if "/api/queues/" in self.path else []).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


def test_check_reads_management_api_if_it_is_given(vhost: str, tmp_path: Path) -> None:
    """It names a queue that left the schedule and is empty now; not for `apply`, nor in the clear beside TLS."""
    lot = ParkedQueueSetup(vhost, settings(vhost, tmp_path))
    lot.run("topology", "apply")
    lot.declare_queues(*LEFT, with_message=LEFT[1])
    with HTTPServer(("127.0.0.1", 0), _ManagementApi) as api:
        Thread(target=api.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{api.server_port}"
        found = lot.run("topology", "check", "--management", base, "--json")
        api.shutdown()
    results = {check["subject"]: check["result"] for check in found.answer["checks"]}
    assert [results.get(name) for name in LEFT] == ["warning", None]
    assert (results["dcs.migration"], found.status) == ("failed", 78)  # by this API no key leads to the queue

    assert lot.run("topology", "apply", "--management", base).status == 2
    encrypted = lot.run("topology", "check", "--management", base, WORKER_AMQP_URL="amqps://u:p@127.0.0.1:1/")
    assert (encrypted.status, "starts with https://" in encrypted.errors) == (2, True)
