"""A server that is measured: started in a process of its own on the first core, stopped with all its descendants.

    with server.running() as running:
        ...  # connect to running.host, running.port; read Tree(running.pid)

Every server does the same work: it takes mail for example.test and throws it away, without TLS, with its log at the
least, with messages up to 50 MiB and with no limit that a load from many loopback addresses would meet. How one does
that is said in the module of the server. This one knows processes only.
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

HOSTNAME = "smtp.example.test"
HOST = "127.0.0.1"

MESSAGE_LIMIT = 50 * 2**20
"""Octets of the largest message that every server takes."""
SILENCE_LIMIT = 900
"""Seconds that every server lets a silent client be: longer than any run holds one."""

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORE = CORES[-1]
"""The server's core, and the one that is for all else: loads, and what stands beside a server (DNS, next hop)."""

START_LIMIT = 30.0
STOP_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts clients."""

    host: str
    port: int
    pid: int
    """The root of its processes: what ``Tree`` wants."""
    folder: Path
    """Where its files are as long as it runs; ``log`` is what it wrote to standard output and error."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a server is given to lay itself out."""

    folder: Path
    port: int
    greeting_delay: float | None
    """Seconds that clients are held before the greeting; None for not at all."""
    beside: ExitStack
    """For what must run beside it: left when the server has ended."""


@dataclass(frozen=True, slots=True)
class Command:
    """How it is started once it is laid out. It must stay in the foreground."""

    arguments: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    """What is added to our own environment."""
    begins_session: bool = False
    """Whether it makes itself the leader of a session, which it cannot if it is one already."""


def never_missing() -> str | None:
    """For servers that stand wherever this benchmark does."""
    return None


@dataclass(frozen=True, slots=True)
class Server:
    """One server in one configuration."""

    name: str
    """As it is named on the command line and in figures."""
    lay_out: Callable[[Place], Command]
    """Writes what it needs into the folder and says how to start it."""
    version: Callable[[], str]
    """Program and version, with the interpreter if it has one, in the words of a table."""
    missing: Callable[[], str | None] = never_missing
    """The sentence that says why it cannot run here; None if it can."""
    holds_clients: bool = False
    """Whether it can hold clients before the greeting."""

    @contextmanager
    def running(self, *, greeting_delay: float | None = None) -> Iterator[Running]:
        """Run it. With a delay every client is held so long before its greeting.

        Raises ValueError if it cannot hold clients, RuntimeError with its log if it does not start.
        """
        if greeting_delay is not None and not self.holds_clients:
            raise ValueError(f"{self.name} cannot hold clients before the greeting")
        raise_descriptor_limit()
        with ExitStack() as beside, _folder() as folder, reserved_port() as port:
            place = Place(folder, port, greeting_delay, beside)
            with _on_core(LOAD_CORE):  # whatever it starts to run beside it stays there
                command = self.lay_out(place)
            with started(command, folder / "log", SERVER_CORE) as process:
                await_listener(process, place.port, folder / "log", greeted=greeting_delay is None)
                yield Running(HOST, place.port, process.pid, folder)


@contextmanager
def started(command: Command, log: Path, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process on this core; in the end nothing of its tree is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *command.arguments],
            env={**os.environ, **command.environ},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=not command.begins_session,  # Ctrl-C is for us, who then end it in good order
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Tell it to stop, and a little later kill what is left: its descendants, and its group."""
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
    """Wait until it greets, or just accepts, a client. Raises RuntimeError with its log when it does not."""
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
    """Let us, and so all that we start, open as many files as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder through which servers that drop privileges may pass too."""
    folder = Path(tempfile.mkdtemp(prefix="gatepost-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def interpreter() -> str:
    """This Python, which runs gatepost too."""
    return f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"


def not_installed(name: str, package: str) -> str | None:
    """The sentence for a program of a Debian package that is absent, else None."""
    return None if _found(name) else f"{name} is not installed: apt-get install {package}"


def program(name: str) -> str:
    """The path of a program. Raises FileNotFoundError if it is not installed."""
    found = _found(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


def _found(name: str) -> str | None:
    # An account that is not root may lack the folders of daemons.
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
