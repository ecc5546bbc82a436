"""The rows on DNS lists of what the wire promises, as a client meets them. The tests of dnsbl have the cases."""

from __future__ import annotations

from gatepost import DNSTemporaryError
from gatepost_builtin.connection.dnsbl import Dnsbl, DnsblOptions
from tests.policy import Policy, delivering, instance, vouching

ZONE = "zen.example.net"


class Server:
    """The server that startup is given: it repeats nothing."""

    hostname = "mx.example.org"

    def every(self, seconds: float, job: object) -> None:
        """Remember nothing."""


async def asked(*answers: tuple[str, str, tuple[str, ...] | Exception]) -> tuple[int, Policy]:
    """The reply to RCPT for 192.0.2.1 behind a list that gives ``answers``, and the policy."""
    policy = Policy()
    for name, kind, answer in answers:
        policy.dns.answers[f"{name}.{ZONE}", kind] = answer
    options = DnsblOptions.model_validate({"zones": {ZONE: 1}, "deny_at": 1})
    dnsbl = Dnsbl(options=options, dns=policy.dns, log=_Silent())
    await dnsbl.startup(Server())
    judged = Policy(instance(dnsbl, "dnsbl"), vouching(), delivering())
    client = await judged.connect("192.0.2.1")
    await client.ehlo()
    await client.mail()
    return (await client.rcpt()).code, judged


class _Silent:
    """A log that nobody reads."""

    def info(self, event: str, **facts: object) -> None: ...

    warning = error = info


LISTED, ALIVE, EVERYTHING = "1.2.0.192", "2.0.0.127", "1.0.0.127"


async def test_dns_lists_only_declared_answers_count() -> None:
    alive = (ALIVE, "A", ("127.0.0.2",))
    assert (await asked(alive, (LISTED, "A", ("127.0.0.2",))))[0] == 550
    assert (await asked(alive, (LISTED, "A", ("127.0.0.100",))))[0] == 250
    assert (await asked(alive, (LISTED, "A", ("127.255.255.254",))))[0] == 250
    everything = (EVERYTHING, "A", ("127.0.0.2",))
    assert (await asked(alive, everything, (LISTED, "A", ("127.0.0.2",))))[0] == 250


async def test_dns_servfail_or_time_out_is_do_not_know() -> None:
    code, policy = await asked((LISTED, "A", DNSTemporaryError("SERVFAIL")))
    assert code == 250
    client = await policy.connect("192.0.2.1")
    await client.transaction()
    said = [str(each) for record in policy.events.records for ruling in record.rulings for each in ruling.said]
    assert any(text.startswith("points +0") and ZONE in text for text in said)
