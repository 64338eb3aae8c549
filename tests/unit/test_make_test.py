"""`make test` installs only the servers that the chosen tests need: what `scripts/test-servers.sh` prints."""

import os
import subprocess

import pytest

from tests.unit.source_tree import ROOT

IPTABLES = " iptables" if os.geteuid() == 0 else ""
"""Only root may drop packets."""
EVERYTHING = f"rabbitmq-server redis-server prometheus chromium npm{IPTABLES}"


@pytest.mark.parametrize(
    ("arguments", "servers"),
    [
        ((), EVERYTHING),
        (("-k", "a or b", "-x"), EVERYTHING),
        (("tests",), EVERYTHING),
        (("tests/unit",), ""),
        (("tests/unit/test_readme.py::test_any", "tests/pipeline", "tests/simulation/", "-q"), ""),
        (("tests/deploy/test_asyncapi_parser.py",), "npm"),
        (("tests/live/test_worker.py", "-k", "drain"), "rabbitmq-server redis-server"),
        (("tests/live/test_late_arrival.py",), IPTABLES),
        (("tests/live",), f"rabbitmq-server redis-server chromium{IPTABLES}"),
        (
            ("tests/deploy", "tests/live/test_status_page.py"),
            f"rabbitmq-server redis-server prometheus chromium npm{IPTABLES}",
        ),
    ],
)
def test_only_servers_of_the_chosen_tests_are_installed(arguments: tuple[str, ...], servers: str) -> None:
    """Paths decide; without one everything is needed."""
    done = subprocess.run(["scripts/test-servers.sh", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == servers.split()
