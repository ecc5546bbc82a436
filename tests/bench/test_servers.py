"""The servers of the benchmark do the work that is measured, and leave nothing behind."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import time

import pytest

from tests.bench.clients import Client, client
from tests.bench.servers import SERVERS, gatepost
from tests.bench.servers.running import Running, Server
from tests.bench.tree import Tree, lives
from tests.patience import PATIENCE

MESSAGE = b"Subject: hello\r\n\r\nHello.\r\n"
TAKES_ALL = ("smtp-sink",)
DISTINCT = [server for server in SERVERS.values() if server.name not in ("gatepost-dns-0", "gatepost-logging")]


@pytest.fixture(params=DISTINCT, ids=lambda server: server.name)
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.param
    if why := found.missing():
        pytest.skip(why)
    return found


def send(running: Running, mail: Client, message: bytes = MESSAGE) -> str:
    """Send a message, repeating a greylisted recipient. Returns the reply to the final dot."""
    with smtplib.SMTP(running.host, running.port, "client.test", source_address=(mail.address, 0)) as smtp:
        smtp.ehlo()
        smtp.mail(mail.sender)
        while smtp.rcpt(mail.recipient)[0] == 451:
            time.sleep(0.002)
        code, text = smtp.data(message)
    assert code == 250
    return text.decode()


def foreign_recipient(running: Running) -> int:
    """Return the code of the reply to a recipient of another domain."""
    with smtplib.SMTP(running.host, running.port, "client.test", source_address=(client(3).address, 0)) as smtp:
        smtp.ehlo()
        smtp.mail("a@client.test")
        return smtp.rcpt("b@elsewhere.test")[0]


def test_takes_mail_for_its_domain_and_no_other_and_leaves_nothing(server: Server) -> None:
    with server.running() as running:
        send(running, client(0))
        code = foreign_recipient(running)
        assert code == 250 if server.name in TAKES_ALL else code in (550, 554)
        family = Tree(running.pid).pids()
        assert family[0] == running.pid
        assert Tree(running.pid).memory().processes == len(family)
    assert not any(map(lives, family))
    assert not running.folder.exists()
    assert server.version()


@pytest.mark.parametrize("name", ["gatepost", "aiosmtpd", "haraka", "postfix"])
def test_holds_clients_before_the_greeting(name: str) -> None:
    server = SERVERS[name]
    if why := server.missing():
        pytest.skip(why)
    with (
        server.running(greeting_delay=60) as running,
        socket.create_connection((running.host, running.port), timeout=PATIENCE) as held,
    ):
        if name == "postfix":
            assert held.recv(1024).startswith(b"220-")  # the first line of a greeting that is not complete
        held.settimeout(0.3)
        with pytest.raises(TimeoutError):
            held.recv(1024)


def test_a_server_that_cannot_hold_clients_says_so() -> None:
    with (
        pytest.raises(ValueError, match="gatepost-bare cannot hold"),
        SERVERS["gatepost-bare"].running(greeting_delay=1),
    ):
        pass


def test_every_plugin_of_the_default_chain_works_for_clients_on_loopback() -> None:
    server = gatepost.default_chain(dns_hits=0, logs=True)
    if why := server.missing():
        pytest.skip(why)
    with server.running() as running:
        first = _explained(running, send(running, client(5)))
        later = _explained(running, send(running, client(5)))
    for plugin in ("access", "earlytalker", "dnsbl", "recipients", "greylist", "discard"):
        assert f" {plugin} " in first
        assert f" {plugin} " in later
    assert "greylisted" in first
    assert "greylisted" not in later
    assert "trusted" not in first + later


def _explained(running: Running, reply: str) -> str:
    """Return what ``gatepost explain`` prints for a message, whose record is written a little after the reply."""
    identifier = reply.split("queued as ")[1].partition(":")[0]
    command = [str(gatepost.SCRIPT), "explain", identifier, "--config", str(running.folder / "gatepost.toml")]
    end = time.monotonic() + PATIENCE
    while (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
        assert time.monotonic() < end, done.stderr
    return done.stdout
