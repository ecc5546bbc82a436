"""A message of 40 MiB passes without much memory being used for it.

``VmHWM`` of proc(5) is the peak resident memory of a process; writing 5 to ``clear_refs`` resets it to the current one.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path

import pytest

from tests.end_to_end.client import Client, connected
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate
from tests.patience import PATIENCE
from tests.peers.mail_server import MailServer

MIB = 2**20
LINE = b"A line of a large message, as long as such lines are: 76 octets without end.\r\n"
HEADERS = b"From: a@example.org\r\nTo: b@example.test\r\nSubject: large\r\n\r\n"
LINES = 40 * MIB // len(LINE)
ROOM = 10 * MIB

POLICY = """
[plugins]
order = ["recipients", "{delivery}"]
[plugins.recipients]
domains = ["example.test"]
[plugins.{delivery}]
{option}
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="Linux's /proc is needed to read the peak memory"
)


def peak(gate: Gate) -> int:
    """Return the server's peak memory since ``reset_peak``, in octets."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{gate.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def reset_peak(gate: Gate) -> None:
    """Measure from now on."""
    Path(f"/proc/{gate.pid}/clear_refs").write_text("5")


def digest_of(line_end: bytes) -> str:
    """Return the digest of the message with these line ends."""
    digest = hashlib.sha256((HEADERS + LINE).replace(b"\r\n", line_end))
    for _ in range(LINES - 1):
        digest.update(LINE.replace(b"\r\n", line_end))
    return digest.hexdigest()


async def send_large(client: Client) -> bytes:
    """Send the message in blocks, so that it is never in memory here, and return the reply to the final dot."""
    await client.greet()
    assert all(reply.startswith(b"250") for reply in await client.envelope(["b@example.test"]))
    assert (await client.say("DATA")).startswith(b"354")
    client.wire.send(HEADERS)
    block = LINE * 1000
    for start in range(0, LINES, 1000):
        client.wire.send(block[: (LINES - start) * len(LINE)])
        await client.wire.writer.drain()
    client.wire.send(b".\r\n")
    async with asyncio.timeout(PATIENCE):
        return await client.wire.reader.readline()


async def rise(gate: Gate) -> int:
    """Send the large message and return how far memory rose above that of the idle server, in octets."""
    reset_peak(gate)
    idle = peak(gate)
    async with connected(gate.port) as client:
        assert (await send_large(client)).startswith(b"250 2.0.0")
    return peak(gate) - idle


async def test_it_goes_to_the_next_hop(start_gate: StartGate) -> None:
    async with MailServer() as server:
        gate = start_gate(POLICY.format(delivery="forward", option=f'to = "{server.url}"'))
        assert await rise(gate) <= ROOM
        (delivered,) = server.messages
        received, _, content = delivered.content.partition(b"From: ")
        assert received.startswith(b"Received: ")
        assert hashlib.sha256(b"From: " + content).hexdigest() == digest_of(b"\r\n")
        await asyncio.to_thread(gate.stop)


async def test_it_goes_to_a_maildir(start_gate: StartGate, tmp_path: Path) -> None:
    gate = start_gate(POLICY.format(delivery="maildir", option=f'path = "{tmp_path}/mail/{{local}}"'))
    assert await rise(gate) <= ROOM
    (file,) = (tmp_path / "mail" / "b" / "new").iterdir()
    _, _, content = file.read_bytes().partition(b"From: ")
    assert hashlib.sha256(b"From: " + content).hexdigest() == digest_of(b"\n")
    assert not list((tmp_path / "state" / "spool").iterdir()), "the spool is empty again"
