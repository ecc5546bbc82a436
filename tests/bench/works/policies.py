"""Changes to gatepost's configuration that a work needs, before the server starts or while it runs."""

from __future__ import annotations

import os
import signal
import socket
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w

from tests.bench.servers.running import HOST, Running

RELOAD_LIMIT = 30.0
SILENCE = 2.0
"""Seconds without a greeting after which a stranger counts as held, even on a busy machine."""
STRANGERS = (f"127.99.{third}.{fourth}" for third in range(256) for fourth in range(256))
"""Addresses from which no client has connected yet. Each is used once."""


@contextmanager
def changed(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the table ``[plugins]`` of the configuration in ``folder``, then write the changes back."""
    file = folder / "gatepost.toml"
    whole = tomllib.loads(file.read_text())
    yield whole["plugins"]
    file.write_text(tomli_w.dumps(whole))


def hold_strangers(running: Running, seconds: int) -> None:
    """Make earlytalker hold strangers for ``seconds`` from now on. It still knows the clients that it knew."""
    with changed(running.folder) as plugins:
        plugins["earlytalker"]["delay"] = f"{seconds}s"
    os.kill(running.pid, signal.SIGHUP)
    end = time.monotonic() + RELOAD_LIMIT
    while _is_greeted(next(STRANGERS), running.port):
        if time.monotonic() > end:
            raise RuntimeError("gatepost did not take up its new configuration")


def _is_greeted(address: str, port: int) -> bool:
    with socket.create_connection((HOST, port), SILENCE, source_address=(address, 0)) as stranger:
        try:
            return stranger.recv(1024).startswith(b"220")
        except TimeoutError:
            return False
