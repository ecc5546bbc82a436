"""A real rbldnsd (Debian's package): the DNS server that most DNS lists run, on a free port of loopback.

Zones are given as they would lie in rbldnsd's own files, by zone and type of data set, as in rbldnsd(8):

    Rbldnsd({"bl.test": {"ip4trie": "127.0.0.2 :127.0.0.2:listed, see $\\n", "dnset": ".bad.example :127.0.0.4:\\n"}})

A zone may have several data sets; the answers of all are given. It knows nothing of gatepost.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import dns.message
import dns.query

TEST_POINTS = {"ip4trie": "127.0.0.2 :127.0.0.2:test point\n", "ip6trie": "::ffff:7f00:2 :127.0.0.2:test point\n"}
"""What a healthy list without entries holds (RFC 5782 §5)."""

EVERYTHING = {"ip4trie": "0.0.0.0/0 :127.0.0.2:all the world\n", "ip6trie": "::/0 :127.0.0.2:all the world\n"}
"""A list that says yes to everything, as lists do that were shut down."""

BLOCKED = {
    "ip4trie": "0.0.0.0/0 :127.255.255.254:public resolver\n",
    "ip6trie": "::/0 :127.255.255.254:public resolver\n",
}
"""A list that will not talk to our resolver: its answer is an error and no listing."""


def missing() -> str | None:
    """Say why no rbldnsd can run here, or None if it can."""
    return None if shutil.which("rbldnsd") else "rbldnsd is not installed: apt-get install rbldnsd"


class Rbldnsd:
    """One rbldnsd, as a context manager: it answers on entering, and is gone on leaving.

    It listens on one ``port`` of all ``hosts``: 127.0.0.1 and, where the machine has it, ::1. ``servers`` are both
    together, as ``[dns] servers`` takes them.
    """

    def __init__(self, zones: Mapping[str, Mapping[str, str]]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-rbldnsd-"))
        self.folder.chmod(0o755)
        self.log = self.folder / "log"
        self.hosts, self.port = _free_place()
        self.servers = [f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}" for host in self.hosts]
        self._sets = list(self._write(zones))

    def __enter__(self) -> Self:
        try:
            self.start()
        except RuntimeError:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def _write(self, zones: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        for zone, sets in zones.items():
            for kind, text in sets.items():
                name = f"{zone}.{kind}"
                (self.folder / name).write_text(text)
                yield f"{zone}:{kind}:{name}"

    def start(self) -> None:
        """Start, or start again after ``stop``, and wait until it answers. Raises RuntimeError with its log if not."""
        listeners = [part for host in self.hosts for part in ("-b", f"{host}/{self.port}")]
        # Root must name whom rbldnsd shall become; anybody else may not.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["rbldnsd", "-n", "-w", str(self.folder), *user, *listeners, *self._sets],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait()
        except RuntimeError:
            self.stop()
            raise

    def _wait(self) -> None:
        end = time.monotonic() + 10
        while not all(self._answers(host) for host in self.hosts):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"rbldnsd did not start:\n{self.log.read_text()}")
        # It only warns of a line it cannot read, and the test would look for a listing that is not there.
        if re.search(r"^rbldnsd: file \S+\(\d+\): ", self.log.read_text(), re.MULTILINE):
            raise RuntimeError(f"rbldnsd cannot read a zone:\n{self.log.read_text()}")

    def stop(self) -> None:
        """End it: nobody answers any more. ``start`` brings it back on the same port."""
        self._process.terminate()
        self._process.wait(10)

    def _answers(self, host: str) -> bool:
        try:
            dns.query.udp(dns.message.make_query("any.test", "A"), host, port=self.port, timeout=0.1)
        except (dns.exception.Timeout, OSError):
            return False
        return True


def _free_place() -> tuple[list[str], int]:
    """Return the loopback addresses of this machine, and a UDP port that is free on all of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four:
        four.bind(("127.0.0.1", 0))
        port = int(four.getsockname()[1])
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six:
            try:
                six.bind(("::1", port))
            except OSError:
                return ["127.0.0.1"], port
        return ["127.0.0.1", "::1"], port
