"""The worker, counting itself: `python -m tools.bench.counted_worker FILE`; at SIGUSR1 it appends what it has counted.

Each line: calls of Python functions so far (a coroutine counts every time that it goes on), by function, and how
many blocks of memory are in use once the garbage collector has run.
"""

import cProfile
import gc
import json
import runpy
import signal
import sys
from collections import Counter
from pathlib import Path
from types import CodeType
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TARGET: Final = Path(sys.argv[1])
PROFILE: Final = cProfile.Profile(subcalls=False, builtins=False)


def label(code: CodeType | str) -> str:
    """A function's module file and name; the file of a library is named by its last two parts."""
    if isinstance(code, str):
        return code
    file = Path(code.co_filename)
    name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else Path(*file.parts[-2:])
    return f"{name}:{code.co_qualname}"


def tell(*_: object) -> None:
    """Append a line."""
    PROFILE.disable()
    gc.collect()
    blocks = sys.getallocatedblocks()
    calls: Counter[str] = Counter()
    for entry in PROFILE.getstats():
        calls[label(entry.code)] += entry.callcount
    with TARGET.open("a") as file:
        file.write(json.dumps({"blocks": blocks, "calls": calls}) + "\n")
    PROFILE.enable()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell)
    PROFILE.enable()
    sys.argv = ["worker", "run"]
    runpy.run_module("worker", run_name="__main__")
