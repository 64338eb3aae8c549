"""Child processes and their folder, which never outlive this process.

A small shell reads the ids of the live processes from a pipe that only this process holds (the last line counts).
When the pipe closes, it kills them and removes the folder. The pipe closes on `close`, and on any end of this process,
SIGKILL included.
"""

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

WATCH_SCRIPT = """
trap "" INT TERM HUP
alive=
while read -r line; do alive=$line; done
[ -z "$alive" ] || kill -KILL $alive
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"""  # the second try is for a process that was still writing when it was killed


class ChildProcesses:
    """A new temporary `folder` and the processes spawned in it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dcs-worker-"))
        self._alive: list[subprocess.Popen[bytes]] = []
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", WATCH_SCRIPT, "watch", str(self.folder)],
            env={"PATH": os.defpath},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def spawn(self, command: Sequence[str], env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        """Start a process in a new session, so that Ctrl-C on our terminal does not reach it.

        `env` None: our own. Its output goes to `folder/output`. Raises OSError when it cannot be started.
        """
        with (self.folder / "output").open("ab") as output:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._alive.append(process)
        self._report_alive()
        return process

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process (SIGKILL) and reap it. Idempotent."""
        if process in self._alive:
            process.kill()
            self._alive.remove(process)
            self._report_alive()
            process.wait()

    def close(self) -> None:
        """Kill and reap every process, remove the folder."""
        for process in list(self._alive):
            self.end(process)
        if self._watch.stdin is not None:
            self._watch.stdin.close()
        self._watch.wait()

    def _report_alive(self) -> None:
        alive = " ".join(str(process.pid) for process in self._alive)
        if self._watch.stdin is not None:
            self._watch.stdin.write(f"{alive}\n".encode())
            self._watch.stdin.flush()
