"""`doctor` on the worker's topology on the broker: missing, different, or as declared."""

from pathlib import Path

from tests.fakes.servers import RabbitMqServer
from tests.live.doctor_command import PASSWORD, QUEUE, apply, declare_retry_queue, doctor, state, vhost_of


def test_missing_objects_are_named_and_not_declared(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """On an empty vhost everything is missing, and still is afterwards; the printed remedy works."""
    before = state(rabbit)
    answer = doctor(vhost, tmp_path)

    assert state(rabbit) == before
    assert "topology" in answer.failed()
    missing = answer.found["topology"]
    assert missing["remedy"] == "dcs-worker topology apply"
    assert all(name in missing["found"] for name in ("dcs.migration.events", f"{QUEUE}.retry.1800s", f"{QUEUE}.parked"))

    apply(vhost, tmp_path)
    assert "topology" not in doctor(vhost, tmp_path).found


def test_missing_dead_letter_target_is_reported(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """Without the parked queue, dead-lettered requests would be lost."""
    apply(vhost, tmp_path)
    rabbit.run_ctl("delete_queue", "-p", vhost_of(vhost), f"{QUEUE}.parked")

    answer = doctor(vhost, tmp_path)

    assert {"topology", "dead letters"} <= answer.failed()
    assert f"{QUEUE} to {QUEUE}.parked" in answer.found["dead letters"]["found"]


def test_difference_is_reported_and_not_changed(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """A queue of another message TTL and an exchange of another kind: both values are printed, exit status 78."""
    declare_retry_queue(vhost, 60, 70_000)
    apply(vhost, tmp_path, WORKER_RETRY_DELAYS="10,300,1800")
    before = state(rabbit)

    swapped = {"WORKER_REQUEST_EXCHANGE": "dcs.migration.events", "WORKER_EVENT_EXCHANGE": "dcs.migration"}
    answer = doctor(vhost, tmp_path, **swapped)

    assert state(rabbit) == before
    assert answer.status == 78
    assert answer.found[f"queue {QUEUE}.retry.60s"]["found"] == "x-message-ttl is 70000, but should be 60000"
    assert answer.found["exchange dcs.migration"]["found"] == "type is direct, but should be topic"
    assert f"queue {QUEUE}.retry.10s" not in answer.failed()


def test_user_without_configure_right_is_reported(rabbit: RabbitMqServer, vhost: str, tmp_path: Path) -> None:
    """Objects that cannot be compared are reported as existing; missing ones need another user."""
    apply(vhost, tmp_path, WORKER_RETRY_DELAYS="60")
    name = f"worker-{vhost_of(vhost)}"
    rabbit.run_ctl("add_user", name, PASSWORD)
    rabbit.run_ctl("set_permissions", "-p", vhost_of(vhost), name, "", ".*", ".*")

    answer = doctor(vhost.replace("guest:guest", f"{name}:{PASSWORD}"), tmp_path)

    assert answer.found[f"queue {QUEUE}"]["result"] == "not checked"
    assert "cannot be compared" in answer.found[f"queue {QUEUE}"]["found"]
    assert "this user may not declare it" in answer.found["topology"]["found"]
