"""The pins of a lock file that apply to the image."""

from collections.abc import Iterator, Mapping

from packaging.requirements import Requirement

IMAGE = {"sys_platform": "linux", "python_full_version": "3.13.0", "python_version": "3.13"}


def shipped(lock: str, environment: Mapping[str, str] = IMAGE) -> Iterator[tuple[str, str]]:
    """Name and version of every pin in the text of a lock file that applies to an environment, the image's."""
    for entry in lock.replace("\\\n", " ").splitlines():
        pin = Requirement(entry.partition(" --hash")[0])
        if pin.marker is None or pin.marker.evaluate(dict(environment)):
            yield pin.name, str(pin.specifier).removeprefix("==")
