"""A server that is started by root serves as the configured user: its ids, its groups, and the files that it makes."""

from __future__ import annotations

import os
import pwd
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.client import message, send
from tests.end_to_end.gate import Gate, configuration

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

USER = "nobody"
OF_ROOT = [0, 4, 27]
"""Supplementary groups of the process that starts the server: root, adm, sudo."""
POLICY = """
user = "nobody"
[plugins]
order = ["recipients", "maildir"]
[plugins.recipients]
domains = ["example.test"]
[plugins.maildir]
path = "{folder}/state/mail/{{local}}"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account can reach, unlike pytest's own, and in which only root may write."""
    with tempfile.TemporaryDirectory(prefix="gatepost-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def identity(pid: int) -> dict[str, list[int]]:
    """Return the ids of all threads of a process: real, effective, saved, that of files, and supplementary groups."""
    found: dict[str, set[str]] = {"Uid": set(), "Gid": set(), "Groups": set()}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in found:
                found[name].add(value.strip())
    assert all(len(values) == 1 for values in found.values()), found
    return {name: [int(each) for value in values for each in value.split()] for name, values in found.items()}


async def test_a_server_with_user_drops_privileges_and_the_supplementary_groups_of_root(folder: Path) -> None:
    account = pwd.getpwnam(USER)
    gate = Gate(folder, configuration(folder, POLICY.format(folder=folder)), groups=OF_ROOT)
    with gate:
        ids = identity(gate.pid)
        assert ids["Uid"] == [account.pw_uid] * 4
        assert ids["Gid"] == [account.pw_gid] * 4
        assert sorted(ids["Groups"]) == sorted(os.getgrouplist(USER, account.pw_gid))
        assert (await send(gate.port, "bob@example.test", message("<a@example.org>"))).startswith(b"250 2.0.0")
    (mail,) = (folder / "state/mail/bob/new").iterdir()
    made = [folder / "state", *(folder / "state").iterdir(), mail]
    assert {(each.stat().st_uid, each.stat().st_gid) for each in made} == {(account.pw_uid, account.pw_gid)}


async def test_a_server_that_has_dropped_privileges_reloads_as_its_user(folder: Path) -> None:
    config = configuration(folder, POLICY.format(folder=folder))
    with Gate(folder, config, groups=OF_ROOT) as gate:
        config.chmod(0o600)  # root's alone
        os.kill(gate.pid, signal.SIGHUP)
        assert gate.wait_for("reload_failed")["error"] == f"{config}: cannot read the file: Permission denied"
