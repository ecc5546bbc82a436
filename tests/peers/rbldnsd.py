"""A real rbldnsd (Debian's package), the DNS server that most DNS lists run, on a reserved port of loopback.

Zones are given in the syntax of rbldnsd's own files, by zone and type of data set, as in rbldnsd(8):

    Rbldnsd({"bl.test": {"ip4trie": "127.0.0.2 :127.0.0.2:listed, see $\\n", "dnset": ".bad.example :127.0.0.4:\\n"}})

A zone may have several data sets; an answer holds the records of all. This module knows nothing of gatepost.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import dns.message
import dns.query

from tests.patience import PATIENCE
from tests.peers.ports import loopback, reserved_port

TEST_POINTS = {"ip4trie": "127.0.0.2 :127.0.0.2:test point\n", "ip6trie": "::ffff:7f00:2 :127.0.0.2:test point\n"}
"""The records of a healthy list without entries (RFC 5782 §5)."""

EVERYTHING = {"ip4trie": "0.0.0.0/0 :127.0.0.2:all the world\n", "ip6trie": "::/0 :127.0.0.2:all the world\n"}
"""A list that lists every address, as some lists do after they were shut down."""

BLOCKED = {
    "ip4trie": "0.0.0.0/0 :127.255.255.254:public resolver\n",
    "ip6trie": "::/0 :127.255.255.254:public resolver\n",
}
"""A list that refuses our resolver: its answer is an error code, not a listing."""


def missing() -> str | None:
    """Return the reason why rbldnsd cannot run here, or None if it can."""
    return None if shutil.which("rbldnsd") else "rbldnsd is not installed: apt-get install rbldnsd"


class Rbldnsd:
    """One rbldnsd, as a context manager: started on entry, stopped and removed on exit.

    It listens on ``port`` of all ``hosts``: 127.0.0.1 and, if the machine has IPv6, ::1. ``servers`` has hosts and port
    in the form of ``[dns] servers``.
    """

    def __init__(self, zones: Mapping[str, Mapping[str, str]]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-rbldnsd-"))
        self.folder.chmod(0o755)
        self.log = self.folder / "log"
        self.hosts = loopback()
        # Held while rbldnsd is stopped too: it must come back on the port that clients know.
        self._reserved = ExitStack()
        self.port = self._reserved.enter_context(reserved_port(self.hosts))
        self.servers = [f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}" for host in self.hosts]
        self._sets = list(self._write(zones))

    def __enter__(self) -> Self:
        try:
            self.start()
        except RuntimeError:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._remove()

    def _remove(self) -> None:
        self._reserved.close()
        shutil.rmtree(self.folder)

    def _write(self, zones: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        for zone, sets in zones.items():
            for kind, text in sets.items():
                name = f"{zone}.{kind}"
                (self.folder / name).write_text(text)
                yield f"{zone}:{kind}:{name}"

    def start(self) -> None:
        """Start rbldnsd, for the first time or after ``stop``, and wait until it answers.

        Raises RuntimeError with its log if it does not, or if it cannot read a zone.
        """
        listeners = [part for host in self.hosts for part in ("-b", f"{host}/{self.port}")]
        # Started by root, rbldnsd requires an account to run as; started by anybody else, it rejects the option.
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
        end = time.monotonic() + PATIENCE
        while not all(self._answers(host) for host in self.hosts):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"rbldnsd did not start:\n{self.log.read_text()}")
        # rbldnsd only warns about a line that it cannot read; the test would then miss a listing without a reason.
        if re.search(r"^rbldnsd: file \S+\(\d+\): ", self.log.read_text(), re.MULTILINE):
            raise RuntimeError(f"rbldnsd cannot read a zone:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stop rbldnsd. ``start`` brings it back on the same port."""
        self._process.terminate()
        self._process.wait(PATIENCE)

    def pause(self) -> None:
        """Keep it from answering. ``go_on`` ends this."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        self._process.send_signal(signal.SIGCONT)

    def _answers(self, host: str) -> bool:
        try:
            dns.query.udp(dns.message.make_query("any.test", "A"), host, port=self.port, timeout=0.1)
        except (dns.exception.Timeout, OSError):
            return False
        return True
