"""A private Prometheus server with the shipped rules."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

from worker.tools.servers import (
    LOOPBACK,
    ChildProcesses,
    PrivateServer,
    ServerUnavailableError,
    replies_with,
)

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
QUEUES = "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count"


def shortened(rules: str, minute_seconds: float) -> str:
    """Rules with every duration shortened, a minute to so many seconds, that are evaluated each second."""
    units = {"m": 1, "h": 60, "d": 1440}

    def short(match: re.Match[str]) -> str:
        minutes = int(match["number"]) * units[match["unit"]]
        return f"{match['before']}{round(1000 * minutes * minute_seconds)}ms"

    rules = re.sub(r"\n +interval: .+", "", rules)
    return re.sub(r"(?P<before>\[|for: )(?P<number>\d+)(?P<unit>[mhd])\b", short, rules)


class Prometheus(PrivateServer):
    """Scrapes `targets` (addresses by job) each second; jobs that end in `-queues` at the broker's page of queues.

    A job `NAMESPACE/NAME`, as the Prometheus Operator makes of a PodMonitor, has the label `namespace` too.

    `minute_seconds`: how long a minute of the rules lasts.
    """

    kind: ClassVar[str] = "Prometheus"
    start_timeout_seconds: ClassVar[float] = 20.0

    def __init__(self, targets: Mapping[str, list[str]], *, minute_seconds: float = 60.0) -> None:
        super().__init__()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._targets = targets
        self._minute_seconds = minute_seconds

    def is_answering(self) -> bool:
        """Whether it is ready."""
        return replies_with(self.port, b"GET /-/ready HTTP/1.0\r\n\r\n", b"HTTP/1.0 200")

    def ask(self, path: str, **parameters: object) -> dict[str, Any]:
        """The answer of the API, errors included."""
        try:
            with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
                said: dict[str, Any] = json.load(answer)
        except HTTPError as error:
            said = json.load(error)
        return said

    def _launch(self, children: ChildProcesses) -> subprocess.Popen[bytes]:
        program = shutil.which("prometheus")
        if program is None:
            raise ServerUnavailableError("Prometheus is not installed: install the package prometheus.")
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        jobs = [self._job(name, addresses) for name, addresses in self._targets.items()]
        for path in RULES:
            (children.folder / path.name).write_text(shortened(path.read_text(), self._minute_seconds))
        config = {"global": every, "rule_files": [path.name for path in RULES], "scrape_configs": jobs}
        (children.folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        return children.spawn(
            [
                program,
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address={LOOPBACK}:{self.port}",
            ],
            None,
        )

    def _job(self, name: str, addresses: list[str]) -> dict[str, Any]:
        pod = {"source_labels": ["__address__"], "target_label": "pod"}
        labels = {"namespace": name.partition("/")[0]} if "/" in name else {}
        static = {"targets": addresses, "labels": labels}
        job: dict[str, Any] = {"job_name": name, "static_configs": [static], "relabel_configs": [pod]}
        if name.endswith("-queues"):
            path, _, query = QUEUES.partition("?")
            families = [pair.partition("=")[2] for pair in query.split("&")]
            job |= {"metrics_path": path, "params": {"family": families}}
        return job
