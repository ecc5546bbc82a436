"""The server's requests to the operating system: ports, descriptors, folders, and another user than root."""

from __future__ import annotations

import os
import platform
import pwd
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gatepost.config import SocketAddress
from gatepost.errors import GatepostError
from gatepost.server.system import drop_privileges, is_loopback, listen, make_folder
from tests.patience import PATIENCE

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def in_a_process_of_its_own(code: str) -> list[str]:
    """Return what ``code`` prints, run in a process of its own, since its effects are not undone."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_loopback_is_what_only_this_machine_can_reach() -> None:
    assert all(is_loopback(SocketAddress(host, 25)) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    assert not any(is_loopback(SocketAddress(host, 25)) for host in ("0.0.0.0", "::", "192.0.2.1", "2001:db8::1"))


def test_a_port_that_somebody_has_is_a_sentence() -> None:
    with listen(SocketAddress("127.0.0.1", 0)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GatepostError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: Address already in use$"):
            listen(SocketAddress("127.0.0.1", port))


def listening_on_both() -> tuple[socket.socket, socket.socket]:
    """Return sockets on one port of IPv6 and of IPv4. The first listens before the second is bound, as in a restart."""
    for _ in range(20):  # the port that the system chooses may belong to another program on the other family
        first = listen(SocketAddress("::", 0))
        first.listen()
        try:
            second = listen(SocketAddress("0.0.0.0", first.getsockname()[1]))
        except GatepostError:
            first.close()
            continue
        second.listen()
        return first, second
    pytest.fail("no port is free on both families, so a listener of IPv6 takes IPv4 too")


def test_ipv4_and_ipv6_can_have_the_same_port() -> None:
    first, second = listening_on_both()
    with first, second:
        for bound, host in ((first, "::1"), (second, "127.0.0.1")):
            bound.settimeout(PATIENCE)
            with socket.create_connection((host, bound.getsockname()[1]), timeout=PATIENCE) as client:
                accepted, address = bound.accept()
                accepted.close()
                assert address[:2] == client.getsockname()[:2]


def test_the_soft_limit_of_descriptors_becomes_the_hard_one() -> None:
    hard = 4000
    soft, clients = in_a_process_of_its_own(
        "import resource\nfrom gatepost.server.system import raise_descriptor_limit\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        "clients = raise_descriptor_limit()\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0], clients)"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= hard
    assert int(soft) == hard and 0 < int(clients) < hard


@only_root
def test_root_becomes_the_user_for_good() -> None:
    account = pwd.getpwnam("nobody")
    # A process of a test has no supplementary groups, so it is given those of root, adm and sudo.
    *identity, again = in_a_process_of_its_own(
        "import os\nfrom gatepost.server.system import drop_privileges\nos.setgroups([0, 4, 27])\n"
        "drop_privileges('nobody')\nprint(*os.getresuid(), *os.getresgid(), *sorted(os.getgroups()))\n"
        "try:\n    os.setuid(0)\nexcept PermissionError:\n    print('never')\n"
    )
    groups = sorted(os.getgrouplist("nobody", account.pw_gid))
    ids = [str(each) for each in (*[account.pw_uid] * 3, *[account.pw_gid] * 3, *groups)]
    assert identity == ids and again == "never"


def test_an_account_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(GatepostError, match="there is no account 'nobody-of-that-name'"):
        drop_privileges("nobody-of-that-name")


@only_root
def test_no_folder_is_made_for_an_account_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GatepostError, match="there is no account 'nobody-of-that-name'"):
        make_folder(tmp_path / "state", "nobody-of-that-name")
    assert not (tmp_path / "state").exists()


def test_without_root_nobody_becomes_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(GatepostError, match="only root can become 'root'"):
        drop_privileges("root")


@only_root
def test_a_folder_is_made_for_the_user_alone(tmp_path: Path) -> None:
    make_folder(tmp_path / "state", "nobody")
    made = (tmp_path / "state").stat()
    assert made.st_uid == pwd.getpwnam("nobody").pw_uid and made.st_mode & 0o777 == 0o700


@only_root
def test_a_folder_that_is_there_is_not_given_away(tmp_path: Path) -> None:
    make_folder(tmp_path, "nobody")
    assert tmp_path.stat().st_uid == 0


def test_a_state_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    for mode in (0o777, 0o1777, 0o702):
        tmp_path.chmod(mode)
        with pytest.raises(GatepostError, match=rf"every account .* may write to {tmp_path}, .*chmod o-w$"):
            make_folder(tmp_path, None)
    tmp_path.chmod(0o775)
    make_folder(tmp_path, None)


def test_a_file_in_place_of_a_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(GatepostError, match=r"state is not a folder$"):
        make_folder(tmp_path / "state", None)
    with pytest.raises(GatepostError, match=r"cannot make the folder .*: Not a directory$"):
        make_folder(tmp_path / "state" / "spool", None)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be told")
def test_the_memory_of_freed_blocks_is_kept_for_the_next_ones() -> None:
    faults = in_a_process_of_its_own(
        "import resource\nfrom gatepost.server.system import keep_freed_memory\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(100):\n"
        "        blocks = [bytes(262_144) for _ in range(4)]\n"
        "        del blocks\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "keep_freed_memory()\nprint(faults())"
    )
    assert int(faults[0]) < 1000  # 100 MiB have 25,600 pages of 4 KiB
