"""The programs of docs/senders.md, each with its client library, if that can be had on this machine."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "senders.md"
CLIENTS = ROOT / "tools" / "senders"
SECONDS = 240.0
GO, JAVA = Path("/usr/share/gocode/src/github.com/rabbitmq/amqp091-go"), Path("/usr/share/java/amqp-client.jar")
PHP = Path("/usr/share/php/PhpAmqpLib/autoload.php")


@dataclass(frozen=True)
class Program:
    """A block of the page: its language, words that no other block of it has, and what makes it run in a folder."""

    language: str
    words: str
    file: str
    prepare: Callable[[Path], list[str]]
    """The command; skips the test if a tool or library cannot be had."""

    def text(self) -> str:
        """The program as the page shows it."""
        found = re.findall(rf"^```{self.language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        (text,) = (block for block in found if self.words in block)
        return str(text)

    def command(self, folder: Path) -> list[str]:
        """Write the program into `folder`, with what it needs, and return how it is run there."""
        (folder / self.file).write_text(self.text())
        return self.prepare(folder)


def start(command: list[str], folder: Path, variables: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a program."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Wait for the end of a program. Raises TimeoutExpired, and kills it then with what it started."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _need(package: str, *things: str | Path) -> None:
    for thing in things:
        is_there = thing.exists() if isinstance(thing, Path) else shutil.which(thing)
        if not is_there:
            pytest.skip(f"{thing} is missing: on Debian, install the package {package}")


def _installed(lock: Path, *command: str) -> Path:
    """A folder with the locked packages, outside of the tree; made once per lock file."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcs-migration-worker"
    folder = cache / f"sender-{lock.stem}-{sha256(lock.read_bytes()).hexdigest()[:16]}"
    if not folder.exists():
        new = folder.with_suffix(f".{os.getpid()}")
        shutil.copytree(CLIENTS, new)
        done = subprocess.run(command, cwd=new, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode != 0:
            shutil.rmtree(new)
            pytest.skip(f"{' '.join(command[:4])} fails: {done.stderr.strip()[-300:]}")
        new.rename(folder)
    return folder


def _pika(folder: Path) -> list[str]:
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--target", "packages")
    packages = _installed(CLIENTS / "requirements.txt", *pip, "--requirement", "requirements.txt") / "packages"
    (folder / "pika").symlink_to(packages / "pika")
    return [sys.executable, "program.py"]


def _node(folder: Path) -> list[str]:
    _need("npm", "node", "npm")
    lock = CLIENTS / "package-lock.json"
    installed = _installed(lock, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    (folder / "node_modules").symlink_to(installed / "node_modules")
    return ["node", "program.mjs"]


def _go(folder: Path) -> list[str]:
    _need("golang-go", "go")
    _need("golang-github-rabbitmq-amqp091-go-dev", GO)
    # Debian's packages are a GOPATH, which knows no modules.
    variables = ["GO111MODULE=off", f"GOPATH={GO.parents[3]}", f"GOCACHE={folder / 'cache'}"]
    return ["env", *variables, "go", "run", "program.go"]


def _java(folder: Path) -> list[str]:
    _need("default-jdk-headless", "javac")
    _need("librabbitmq-client-java", JAVA)
    return ["java", "--class-path", f"{JAVA}:{JAVA.parent / 'slf4j-api.jar'}", str(folder / "Create.java")]


def _php(folder: Path) -> list[str]:
    _need("php-cli", "php")
    _need("php-amqplib", PHP)
    (folder / "vendor").mkdir()
    (folder / "vendor" / "autoload.php").write_text(f"<?php require '{PHP}';")
    return ["php", "program.php"]


def _ruby(_: Path) -> list[str]:
    _need("ruby-bunny", "ruby", Path("/usr/share/doc/ruby-bunny"))
    return ["ruby", "program.rb"]


def _shell(_: Path) -> list[str]:
    _need("curl", "curl")
    return ["sh", "program.sh"]


SENDERS = (
    Program("python", "basic_publish", "program.py", _pika),
    Program("js", "amqplib", "program.mjs", _node),
    Program("go", "amqp091", "program.go", _go),
    Program("java", "rabbitmq", "Create.java", _java),
    Program("php", "PhpAmqpLib", "program.php", _php),
    Program("ruby", "bunny", "program.rb", _ruby),
    Program("sh", "curl", "program.sh", _shell),
)
READER = Program("python", "queue_bind", "program.py", _pika)
