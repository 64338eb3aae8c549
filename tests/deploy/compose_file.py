"""deploy/compose.yaml, parsed, with names of services replaced by loopback addresses where it runs here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
LOADED: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = LOADED["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "dcs-migration-worker"]
WORKERS = [name for name in OURS if name.startswith("worker-")]


def beside(path: str) -> Path:
    """A path as the compose file gives it, from the folder that it is in."""
    return (FILE.parent / path).resolve()


def secret_files(service: Mapping[str, Any]) -> dict[str, Path]:
    """The secrets of a service, by the name under which it sees them in /run/secrets, or by their full path."""
    given = [one if isinstance(one, dict) else {"source": one, "target": one} for one in service.get("secrets", ())]
    return {str(one["target"]): beside(LOADED["secrets"][one["source"]]["file"]) for one in given}


@dataclass(frozen=True)
class Placed:
    """The services at other addresses than their names: `rabbitmq:5672` becomes what `places` says."""

    places: Mapping[str, str]
    folder: Path

    def text(self, text: str) -> str:
        """Any text of theirs, with the addresses replaced."""
        for name, place in self.places.items():
            text = text.replace(name, place)
        return text

    def environment(self, name: str) -> dict[str, str]:
        """What a service of ours is told: its environment, and its secrets as files in a folder."""
        service = SERVICES[name]
        secrets = self.folder / f"{name}-secrets"
        secrets.mkdir(exist_ok=True)
        for secret, path in secret_files(service).items():
            (secrets / secret).write_text(self.text(path.read_text()))
        told = {variable: self.text(str(value)) for variable, value in service.get("environment", {}).items()}
        return told | {"WORKER_SECRETS_DIR": str(secrets)}

    def command(self, name: str) -> list[str]:
        """The command of a service, with options of ours changed to other addresses."""
        return [self.text(str(word)) for word in SERVICES[name].get("command") or ["run"]]

    @cached_property
    def prometheus(self) -> Path:
        """The configuration of Prometheus, with its rules beside it."""
        source = ROOT / "deploy" / "prometheus"
        path = self.folder / "prometheus.yml"
        text = (source / "prometheus.yml").read_text().replace("rules/", f"{source}/rules/")
        path.write_text(self.text(text))
        return path
