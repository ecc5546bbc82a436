"""A server that is measured: it is started in its own process on the first core, and stopped with all its descendants.

    with server.running() as running:
        ...  # connect to running.host, running.port; read Tree(running.pid)

Every server does the same work: it takes mail for example.test and discards it, without TLS, with its log at the
minimum, with messages of up to 50 MiB, and with no limit that a load from many loopback addresses would reach. The
module of each server says how it does that. This module knows processes only.
"""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.tree import Tree, lives
from tests.peers.ports import reserved_port

ROOT = Path(__file__).parents[3]
"""The root of the repository."""

HOSTNAME = "smtp.example.test"
HOST = "127.0.0.1"

MESSAGE_LIMIT = 50 * 2**20
"""Octets of the largest message that every server takes."""
SILENCE_LIMIT = 900
"""Seconds after which every server drops a silent client, longer than any run lasts."""

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORE = CORES[-1]
"""The core of the server, and that of everything else: loads, and programs beside the server (DNS, next hop)."""

START_LIMIT = 30.0
STOP_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts clients."""

    host: str
    port: int
    pid: int
    """The root of its processes, for ``Tree``."""
    folder: Path
    """The folder of its files while it runs; ``log`` has its standard output and error."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place in which a server writes its configuration."""

    folder: Path
    port: int
    greeting_delay: float | None
    """Seconds for which clients are held before the greeting, or None."""
    beside: ExitStack
    """A stack for programs that must run beside the server; it is closed when the server has ended."""


@dataclass(frozen=True, slots=True)
class Command:
    """The command that starts a server, which must stay in the foreground."""

    arguments: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    """Variables that are added to our own environment."""
    begins_session: bool = False
    """True if it makes itself the leader of a session, which fails if it is one already."""


def never_missing() -> str | None:
    """Return None: the server can run wherever the benchmark can."""
    return None


@dataclass(frozen=True, slots=True)
class Server:
    """One server in one configuration."""

    name: str
    """The name on the command line and in figures."""
    lay_out: Callable[[Place], Command]
    """Writes the server's files into the folder and returns the command that starts it."""
    version: Callable[[], str]
    """Returns program and version, with the interpreter if it has one, as they stand in a table."""
    missing: Callable[[], str | None] = never_missing
    """Returns the reason why it cannot run here, as a sentence, or None if it can."""
    holds_clients: bool = False
    """True if it can hold clients before the greeting."""

    @contextmanager
    def running(self, *, greeting_delay: float | None = None) -> Iterator[Running]:
        """Run the server. With a delay it holds every client for so long before the greeting.

        Raises ValueError if it cannot hold clients, and RuntimeError with its log if it does not start.
        """
        if greeting_delay is not None and not self.holds_clients:
            raise ValueError(f"{self.name} cannot hold clients before the greeting")
        raise_descriptor_limit()
        with ExitStack() as beside, _folder() as folder, reserved_port() as port:
            place = Place(folder, port, greeting_delay, beside)
            with _on_core(LOAD_CORE):  # programs that are started beside the server inherit this core
                command = self.lay_out(place)
            with started(command, folder / "log", SERVER_CORE) as process:
                await_listener(process, place.port, folder / "log", greeted=greeting_delay is None)
                yield Running(HOST, place.port, process.pid, folder)


@contextmanager
def started(command: Command, log: Path, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process on this core. At the end no process of its tree is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command.arguments],
            env={**os.environ, **command.environ},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=not command.begins_session,  # Ctrl-C must reach only us; we then stop the server
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process, and kill what is left of its group and its descendants after ``STOP_LIMIT`` seconds."""
    family = Tree(process.pid).pids()
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in filter(lives, family):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + STOP_LIMIT
    while any(map(lives, family)) and time.monotonic() < end:
        time.sleep(0.01)


def await_listener(process: subprocess.Popen[bytes], port: int, log: Path, *, greeted: bool = True) -> None:
    """Wait until it greets a client or, if not ``greeted``, accepts one. Raises RuntimeError with its log if not."""
    end = time.monotonic() + START_LIMIT
    while not _listens(port, greeted=greeted):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.02)


def _listens(port: int, *, greeted: bool) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=5) as client:
            if not greeted:
                return True
            if not client.recv(1024).startswith(b"220"):
                return False
            client.sendall(b"QUIT\r\n")
            return client.recv(1024).startswith(b"221")
    except OSError:
        return False


@contextmanager
def _on_core(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> None:
    """Raise the limit of open files to the maximum, for us and for all processes that we start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that servers may enter even after they have dropped their privileges."""
    folder = Path(tempfile.mkdtemp(prefix="gatepost-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def interpreter() -> str:
    """Return the name of this Python, which runs gatepost too."""
    return f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"


def not_installed(name: str, package: str) -> str | None:
    """Return a sentence if a program is absent, which names its Debian package, or None if it is installed."""
    return None if _found(name) else f"{name} is not installed: apt-get install {package}"


def program(name: str) -> str:
    """Return the path of a program. Raises FileNotFoundError if it is not installed."""
    found = _found(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def _found(name: str) -> str | None:
    # The PATH of an ordinary account may lack the folders of daemons.
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
