"""The DNS service with a real name server, NSD (Debian's package)."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest

from gatepost.errors import DNSTemporaryError
from gatepost.services.clock import SystemClock
from gatepost.services.dns.client import DNS
from gatepost.services.dns.resolver import reversed_address
from gatepost.services.virtual_clock import VirtualClock
from tests.patience import PATIENCE
from tests.peers.ports import loopback, reserved_port

ZONES = {
    "example.test": """
$TTL 300
@ SOA ns hostmaster 1 3600 600 86400 120
  NS ns
  MX 10 mx
  TXT "v=spf1 " "-all"
ns A 127.0.0.1
mx A 192.0.2.1
mx AAAA 2001:db8::1
www CNAME mx
lost CNAME gone
*.wild A 192.0.2.7
child NS ns.child
ns.child A 192.0.2.53
"""
    + "".join(f'big TXT "{number:03d} {"x" * 200}"\n' for number in range(40)),
    "2.0.192.in-addr.arpa": """
$TTL 300
@ SOA ns.example.test. hostmaster.example.test. 1 3600 600 86400 120
  NS ns.example.test.
1 PTR mx.example.test.
9 PTR mx.example.test.
"""
    + "".join(f"50 PTR {number:03d}.many.example.test.\n" for number in range(500)),
    "8.b.d.0.1.0.0.2.ip6.arpa": f"""
$TTL 300
@ SOA ns.example.test. hostmaster.example.test. 1 3600 600 86400 120
  NS ns.example.test.
{reversed_address("2001:db8::1")}.ip6.arpa. PTR mx.example.test.
""",
}


class NSD:
    """An NSD on ``port`` of all ``hosts``."""

    def __init__(self, program: str, folder: Path, hosts: list[str], port: int) -> None:
        self.hosts, self.port = hosts, port
        self._log = folder / "log"
        self._command = [program, "-d", "-c", str(self._write(folder))]

    def _write(self, folder: Path) -> Path:
        lines = ["server:", 'username: ""', 'pidfile: ""', 'database: ""', "server-count: 1", f"port: {self.port}"]
        lines += [f'zonesdir: "{folder}"', f'xfrdfile: "{folder}/xfrd"', f'zonelistfile: "{folder}/zones"']
        lines += [f'xfrdir: "{folder}"', *(f"ip-address: {host}" for host in self.hosts)]
        lines += ["remote-control:", "control-enable: no"]
        for zone, text in ZONES.items():
            (folder / zone).write_text(text)
            lines += ["zone:", f'name: "{zone}"', f'zonefile: "{zone}"']
        path = folder / "nsd.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def servers(self) -> list[str]:
        """Return hosts and port in the form of ``[dns] servers``."""
        return [f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}" for host in self.hosts]

    def start(self) -> None:
        """Start NSD and wait until it answers. Raises RuntimeError with its log if it does not."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while not all(self._answers(host) for host in self.hosts):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"NSD did not start:\n{self._log.read_text()}")

    def stop(self) -> None:
        """Stop NSD."""
        self._process.terminate()
        self._process.wait(PATIENCE)

    def _answers(self, host: str) -> bool:
        with contextlib.suppress(dns.exception.Timeout, OSError):
            response = dns.query.udp(dns.message.make_query("example.test", "SOA"), host, port=self.port, timeout=0.1)
            return bool(response.answer)
        return False


@pytest.fixture
def nsd(tmp_path: Path, require_program: Callable[[str, str], str]) -> Iterator[NSD]:
    program, hosts = require_program("nsd", "nsd"), loopback()
    with reserved_port(hosts) as port:
        server = NSD(program, tmp_path, hosts, port)
        server.start()
        yield server
        server.stop()


async def test_answers_of_a_real_server_come_as_text(nsd: NSD) -> None:
    for server in nsd.servers():
        dns = DNS([server], clock=SystemClock())
        assert await dns.query("mx.example.test", "A") == ("192.0.2.1",)
        assert await dns.query("mx.example.test", "AAAA") == ("2001:db8::1",)
        assert await dns.query("www.example.test", "A") == ("192.0.2.1",)
        assert await dns.query("any.wild.example.test", "A") == ("192.0.2.7",)
        assert await dns.query("example.test", "MX") == ("10 mx.example.test",)
        assert await dns.query("example.test", "NS") == ("ns.example.test",)
        assert await dns.query("example.test", "TXT") == ("v=spf1 -all",)
        assert len(await dns.query("big.example.test", "TXT")) == 40  # too large for a datagram
        await dns.close()


async def test_records_that_do_not_exist_are_empty_and_a_refusal_is_an_error(nsd: NSD) -> None:
    dns = DNS(nsd.servers(), clock=SystemClock())

    assert await dns.query("gone.example.test", "A") == ()
    assert await dns.query("ns.example.test", "AAAA") == ()
    assert await dns.query("lost.example.test", "A") == ()
    with pytest.raises(DNSTemporaryError, match="REFUSED"):
        await dns.query("elsewhere.test", "A")
    with pytest.raises(DNSTemporaryError, match="referral"):
        await dns.query("mx.child.example.test", "A")
    await dns.close()


async def test_names_are_verified_with_a_real_server(nsd: NSD) -> None:
    dns = DNS(nsd.servers(), clock=SystemClock())

    assert await dns.verified_name("192.0.2.1") == "mx.example.test"
    assert await dns.verified_name("2001:db8::1") == "mx.example.test"
    assert await dns.verified_name("192.0.2.9") is None
    assert await dns.verified_name("192.0.2.77") is None
    with pytest.raises(DNSTemporaryError):
        await dns.verified_name("198.51.100.1")
    await dns.close()


async def test_of_500_names_in_a_real_reverse_zone_five_are_read(nsd: NSD) -> None:
    dns = DNS(nsd.servers(), clock=SystemClock())
    names = await dns.reverse("192.0.2.50")
    assert len(set(names)) == 5 and all(name.endswith(".many.example.test") for name in names)
    assert await dns.verified_name("192.0.2.50") is None
    await dns.close()


async def test_answers_are_kept_for_their_time_to_live_without_the_server(nsd: NSD) -> None:
    clock = VirtualClock()
    dns = DNS(nsd.servers(), clock=clock)
    await dns.query("mx.example.test", "A")
    await dns.query("gone.example.test", "A")
    nsd.stop()

    await clock.advance(119)
    assert await dns.query("gone.example.test", "A") == ()
    await clock.advance(1)
    with pytest.raises(DNSTemporaryError):
        await dns.query("gone.example.test", "A")

    await clock.advance(179)
    assert await dns.query("mx.example.test", "A") == ("192.0.2.1",)
    await clock.advance(1)
    with pytest.raises(DNSTemporaryError):
        await dns.query("mx.example.test", "A")
    await dns.close()
