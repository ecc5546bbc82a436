"""Changes to gatepost's policy that a work needs: in its configuration, before it starts or while it runs."""

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
"""Seconds without a greeting after which a stranger counts as held, on a busy machine too."""
STRANGERS = (f"127.99.{third}.{fourth}" for third in range(256) for fourth in range(256))
"""Addresses from which nobody has come yet, each to be used once."""


@contextmanager
def changed(folder: Path) -> Iterator[dict[str, Any]]:
    """Give ``[plugins]`` of the configuration in that folder, and write it back."""
    file = folder / "gatepost.toml"
    whole = tomllib.loads(file.read_text())
    yield whole["plugins"]
    file.write_text(tomli_w.dumps(whole))


def hold_strangers(running: Running, seconds: int) -> None:
    """Let earlytalker hold strangers so long from now on; whom it knows already it goes on to know."""
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
