"""The walk of the README, with its very commands, though with fewer requests."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.live.test_demo import ROOT, started

REQUESTS = 12
ALL = 1000


def walk() -> str:
    """The commands for the second terminal."""
    section = (ROOT / "README.md").read_text().partition("## A walk through it")[2].partition("\n## ")[0]
    _, commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert str(ALL) in commands
    return str(commands).replace(str(ALL), str(REQUESTS))


@pytest.mark.timeout(180)
def test_the_walk_of_the_readme(tmp_path: Path, vhost: str) -> None:
    """Break, submit, parked, explain, mend, replay, and one task per request: as it is written there."""
    with started(tmp_path, "--keep", "--requests", "1", url=vhost) as demo:
        demo.until("In another terminal")
        demo.until("  export STANDIN=")
        exported = dict(re.findall(r"^  export (\w+)=(.*)$", demo.output, re.MULTILINE))
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "WORKER_AMQP_URL": vhost,
            **{name: shlex.split(value)[0] for name, value in exported.items()},
        }
        done = subprocess.run(
            ["sh", "-x"],
            input=walk(),
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        with urlopen(f"{environment['STANDIN']}/_tasks?limit=0", timeout=5) as reply:
            tasks = json.loads(reply.read())
        demo.process.send_signal(signal.SIGINT)
        demo.end()

    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    for words in (
        rf"{REQUESTS} requests, all valid\. Nothing was sent",
        rf"exhausted +DCS\.4049 +{REQUESTS} ",
        r"create call 1: 400 \(DCS\.4049\) after .*, rejected: no task was created, DCS request id \w+",
        r"waits 4 s in retry queue 4: because of 400",
        r"parked: exhausted \(DCS\.4049\)",
        "would create",
        f"{REQUESTS} replayed, 0 still parked",
        rf"created +{REQUESTS}",
    ):
        assert re.search(words, told), (words, told)
    assert (tasks["count"], tasks["repeated"]) == (REQUESTS + 1, {}), told
