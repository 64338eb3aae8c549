"""Variables that look like ours and are not read: most likely typing errors, worth a warning each."""

import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from worker.config.settings import SDK_VARIABLES, Settings, variable
from worker.config.sources import SettingsSources

_KNOWN_VARIABLES = tuple(name for name in map(variable, Settings.model_fields) if name.startswith("WORKER_"))


def unknown_warnings(sources: SettingsSources) -> Iterator[str]:
    """Yield one line for each unknown name that begins with `WORKER_`, wherever it stands."""
    files = {name: name.lower() for name in _KNOWN_VARIABLES}
    yield from _warnings("environment", sources.environ, {name: name for name in _KNOWN_VARIABLES})
    yield from _warnings("folder of secret files", _file_names(sources), files)
    yield from _warnings(".env file", sources.dotenv, {name: name for name in _KNOWN_VARIABLES})


def ignored_warnings(sources: SettingsSources) -> Iterator[str]:
    """Yield one line for each of the SDK's variables that yields to ours."""
    ours = [sources.found[field].variable for field in SDK_VARIABLES if field in sources.found]
    for name in SDK_VARIABLES.values():
        if name not in ours and ours and sources.find(name):
            yield f"{name}: is ignored, {ours[0]} is set"


def _warnings(place: str, names: Iterable[str], known: Mapping[str, str]) -> Iterator[str]:
    """`known` gives, for each variable, how its name is written in this place."""
    for name in sorted(names):
        if name.upper().startswith("WORKER_") and name not in known.values():
            nearest_name = get_close_matches(name.upper(), known, n=1, cutoff=0.0)[0]
            shown = name.encode("unicode_escape").decode()
            yield f"{shown}: is not known and ignored (in the {place}); the nearest known is {known[nearest_name]}"


def _file_names(sources: SettingsSources) -> list[str]:
    try:
        return os.listdir(sources.folder)
    except (OSError, ValueError):  # no such folder, or a name that no folder can have
        return []
