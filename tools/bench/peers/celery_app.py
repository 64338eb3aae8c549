# mypy: disable-error-code="import-not-found,untyped-decorator"
"""Celery with requests: https://docs.celeryq.dev/en/stable/ (started by `celery worker`, pool of threads)."""

import sys
import threading
from typing import Any

import requests
from celery import Celery
from kombu import Queue

from tools.bench import load

QUORUM = {"x-queue-type": "quorum"}

app = Celery("bench", broker=load.AMQP_URL)
app.conf.update(
    task_queues=[Queue(name, queue_arguments=QUORUM) for name in (load.REQUESTS, load.EVENTS)],
    task_default_queue=load.REQUESTS,
    task_routes={"migrated": {"queue": load.EVENTS}},
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    broker_pool_limit=load.IN_FLIGHT,
    broker_transport_options={"confirm_publish": True},
)
kept = threading.local()


def session() -> requests.Session:
    """The HTTP session of this thread: sessions are not shared between threads."""
    if not hasattr(kept, "session"):
        kept.session = requests.Session()
        kept.session.headers.update(load.HEADERS)
    found: requests.Session = kept.session
    return found


@app.task(name="create")
def create(request: dict[str, Any]) -> None:
    """Create the task of a request; the next task's message is the event."""
    answer = session().post(load.service_url(request["project_id"]), json=request["task"])
    answer.raise_for_status()
    migrated.delay(load.event(request, answer.json()))


@app.task(name="migrated")
def migrated(event: dict[str, Any]) -> None:
    """Whoever waits for the event takes it from here."""


if __name__ == "__main__":
    with app.connection_for_write() as connection:
        app.amqp.queues[load.EVENTS](connection).declare()
    for one in load.paced(int(sys.argv[1]), float(sys.argv[2])):
        create.delay(one)
