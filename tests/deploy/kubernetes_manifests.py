"""The manifests of deploy/kubernetes as kustomize builds them, and what they are checked against."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import jsonschema
import kubernetes_validate
import yaml

ROOT: Final = Path(__file__).parents[2]
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
DATA: Final = Path(__file__).parent / "data"
COMPONENTS: Final = ("autoscaling", "monitoring", "network-policy", "valkey")
KEYLESS: Final = ("metadata", "oidc", "pod-identity")
"""Components of which an operator takes one at most: where the keys come from."""
CHOICES: Final = (
    *((keyless,) for keyless in KEYLESS),
    *((*COMPONENTS, keyless) for keyless in KEYLESS),
    *(choice for size in range(5) for choice in combinations(COMPONENTS, size)),
)
VERSIONS: Final = ("1.30", "1.37")
"""The oldest Kubernetes that knows all that is used, and the newest whose schemas are at hand."""

HASH: Final = re.compile(r"-[a-z0-9]{10}$")
"""What kustomize puts behind the name of a ConfigMap, so that a change of it is a new one."""

README: Final = (KUBERNETES / "README.md").read_text()
(REPLACEMENTS,) = re.findall(r"^```yaml\n(replacements:\n.+?)^```$", README, re.MULTILINE | re.DOTALL)
"""What the README asks of an overlay that scales."""
(TOOLBOX_SECRET,) = re.findall(r"^```yaml\n(patches:\n.+?)^```$", README, re.MULTILINE | re.DOTALL)
"""What the README asks of an overlay whose toolbox has secrets of its own."""

Manifest = dict[str, Any]


def kustomize(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # a warning says what will not work in future
    return list(yaml.safe_load_all(done.stdout))


@cache
def built(choice: tuple[str, ...], namespace: str = "prod-migration", more: str = "") -> list[Manifest]:
    """The base with some components, as an operator's own overlay puts them together in its namespace.

    `more`: further lines of the overlay.
    """
    with TemporaryDirectory() as folder:
        here = Path(os.path.relpath(KUBERNETES, os.path.realpath(folder)))
        overlay: dict[str, Any] = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": namespace,
            "resources": [str(here / "base")],
            "components": [str(here / "components" / name) for name in choice],
        }
        if "autoscaling" in choice:
            overlay |= yaml.safe_load(REPLACEMENTS)
        overlay |= yaml.safe_load(more) or {}
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        return kustomize(Path(folder))


def one(manifests: list[Manifest], kind: str, name: str = "dcs-worker") -> Manifest:
    """The manifest of a kind and name; the hash behind a generated name does not count."""
    (found,) = [it for it in manifests if it["kind"] == kind and HASH.sub("", it["metadata"]["name"]) == name]
    return found


def pod(workload: Manifest) -> Manifest:
    """The pod's specification of a workload."""
    found: Manifest = workload["spec"]["template"]["spec"]
    return found


def container(workload: Manifest) -> Manifest:
    """The one container of a workload."""
    (found,) = pod(workload)["containers"]
    assert isinstance(found, dict)
    return found


@cache
def custom_schemas() -> dict[tuple[str, str], jsonschema.Draft202012Validator]:
    """Validators of the custom resources by version and kind; fields that are not known are refused."""
    found = {}
    for path in DATA.glob("*.json"):
        document = json.loads(path.read_text())
        if isinstance(document, dict):
            schema = closed(document["openAPIV3Schema"])
            found[document["apiVersion"], document["kind"]] = jsonschema.Draft202012Validator(schema)
    return found


def closed(schema: Any) -> Any:
    """The same schema, refusing what it does not name; metadata is Kubernetes' own and stays open."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(part) for key, part in schema.items()}
    if isinstance(found.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in found:
        found.setdefault("additionalProperties", False)
    return found


def faults(manifest: Manifest) -> list[str]:
    """What is wrong with a manifest; raises SchemaNotFoundError of a kind that nobody knows."""
    return _faults(json.dumps(manifest))


@cache  # most are the same in every combination
def _faults(text: str) -> list[str]:
    manifest = json.loads(text)
    custom = custom_schemas().get((manifest["apiVersion"], manifest["kind"]))
    if custom is not None:
        return [f"{error.json_path}: {error.message}" for error in custom.iter_errors(manifest)]
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{version}: {'.'.join(map(str, error.path))}: {error.message}")
    return found
