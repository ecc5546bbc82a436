"""``gatepost serve`` in a process of its own: what it says at the start, and that a refusal's id can be explained."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.core.cli.running import SOUND, Folder, run

GATEPOST = (sys.executable, "-c", "from gatepost.cli import main; main()")


@contextmanager
def serving(folder: Folder, *arguments: str, until: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running server, and what it said on standard error until that."""
    environment = {**os.environ, "XDG_STATE_HOME": str(folder.path / "home"), **environ}
    process = subprocess.Popen(
        [*GATEPOST, "serve", *arguments], stderr=subprocess.PIPE, text=True, cwd=folder.path, env=environment
    )
    assert process.stderr is not None
    said = ""
    try:
        while until not in said and (line := process.stderr.readline()):
            said += line
        yield process, said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_the_embedded_default_says_what_it_does_where_and_what_to_try(folder: Folder) -> None:
    bind = {"GATEPOST__LISTEN__SMTP__BIND": '["127.0.0.1:0"]'}
    with serving(folder, until="gatepost init", **bind) as (process, said):
        port = int(re.search(r"listens on 127\.0\.0\.1:(\d+)", said)[1])  # type: ignore[index]
        assert f"swaks --server 127.0.0.1:{port}" in said and f"nc 127.0.0.1 {port}" in said
        assert "/maildir/{local}" in said
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(b"EHLO x\r\n")
            reply = client.makefile("rb").readline().decode()
        assert reply.startswith("554 5.5.1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    identifier = re.search(r"\[(\w{10})]", reply)[1]  # type: ignore[index]
    explained = run("explain", identifier, env={"XDG_STATE_HOME": str(folder.path / "home")})
    assert explained.exit_code == 0
    assert "decided by: earlytalker at connect" in explained.stdout


def test_lines_are_json_when_nobody_looks(folder: Folder) -> None:
    path = folder.write(SOUND.replace("2525", "0"))
    with serving(folder, "--config", path, until="started") as (_, said):
        lines = [json.loads(line) for line in said.splitlines()]
    assert lines[-1]["event"] == "started"
    assert "swaks" not in said


def test_nothing_is_bound_when_there_is_a_mistake(folder: Folder) -> None:
    path = folder.write(SOUND.replace('"discard"', '"discrad"'))
    done = subprocess.run(
        [*GATEPOST, "serve", "--config", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 78
    assert f"{path}:6: plugins.discrad: no installed package offers" in done.stderr
    assert "Traceback" not in done.stderr
