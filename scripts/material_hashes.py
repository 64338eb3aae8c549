"""Writes the SHA-256 of each installed wheel, from the report of `pip install --report`, into a bill of materials."""

import json
import re
import sys
from pathlib import Path


def canonical(name: str) -> str:
    """A project's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def add_hashes(report: Path, bill: Path) -> None:
    """Give each component the hash of the file that it was installed from; one without a hash is an error."""
    installed = {
        canonical(one["metadata"]["name"]): one["download_info"]["archive_info"]["hashes"]["sha256"]
        for one in json.loads(report.read_text())["install"]
    }
    content = json.loads(bill.read_text())
    for component in content["components"]:
        component["hashes"] = [{"alg": "SHA-256", "content": installed[canonical(component["name"])]}]
    bill.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    add_hashes(*map(Path, sys.argv[1:]))
