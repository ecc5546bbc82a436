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

import pytest

from tests.core.cli.running import SOUND, Folder, run
from tests.core.rehearsal.policies import granting
from tests.patience import PATIENCE

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


WRONG = {
    "a plugin that is not installed": (('"discard"]', '"discrad"]'), "6: plugins.discrad: no installed package offers"),
    "no listener": (('[listen.smtp]\nbind = ["127.0.0.1:2525"]\n', ""), "listen: there is no listener"),
    "no such account": (("hostname", 'user = "nobody-of-that-name"\nhostname'), "1: user: there is no account"),
    "nobody vouches": (('"recipients", ', ""), "6: plugins.order: no plugin vouches for recipients"),
    "nobody delivers": ((', "discard"', ""), "6: plugins.order: no plugin delivers"),
    "an open relay": (('"recipients", ', '"yes", '), "7: plugins.yes: anyone may relay"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_serve_exits_78_wherever_check_does_and_says_the_same(folder: Folder, kind: str) -> None:
    (old, new), words = WRONG[kind]
    text = SOUND.replace(old, new)
    if kind == "an open relay":
        text = text.replace("[plugins.recipients]\ndomains", '[plugins.yes]\nuse = "yes.py"\n#')
    path = folder.write(text, yes=granting("recipients", "rcpt"))
    checked = run("check", "--config", path)
    done = subprocess.run(
        [*GATEPOST, "serve", "--config", path], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (checked.exit_code, done.returncode) == (78, 78)
    assert words in done.stderr
    assert done.stderr.splitlines() == [
        line.removeprefix("error: ") for line in checked.stdout.splitlines() if line.startswith("error: ")
    ]
    assert not (folder.path / "state").exists()
