"""Addresses that break the grammar and that Postfix takes, from a client through the whole gate to a real Postfix."""

from __future__ import annotations

from tests.end_to_end.client import connected, message
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate
from tests.peers.mail_server import MailServer
from tests.peers.postfix import DOMAIN, Postfix

POLICY = """
[plugins]
order = ["recipients", "forward"]
[plugins.recipients]
domains = ["{domain}"]
[plugins.forward]
to = "smtp://127.0.0.1:{port}"
"""
SENDERS = {
    "<a..b@docomo.example>": "a..b@docomo.example",
    "<.a@example.org>": ".a@example.org",
    "<a.@example.org>": "a.@example.org",
    '<"a..b"@example.org>': '"a..b"@example.org',
    "<a@example.org.>": "a@example.org",
    "<a@example.org> AUTH=": "a@example.org",
    "< a@example.org >": "a@example.org",
    "a@example.org": "a@example.org",
    "a@example.org SIZE=100": "a@example.org",
    "<a@straße.example> SMTPUTF8": "a@xn--strae-oqa.example",
}
RECIPIENTS = {
    f"<in..box@{DOMAIN}>": f"in..box@{DOMAIN}",
    f"<inbox.@{DOMAIN}>": f"inbox.@{DOMAIN}",
    f"<inbox@{DOMAIN}.>": f"inbox@{DOMAIN}",
    f"inbox@{DOMAIN}": f"inbox@{DOMAIN}",
}


async def send_all(gate: Gate) -> None:
    """Send a message from each sender, to the recipients in turn, and see each accepted."""
    async with connected(gate.port) as client:
        await client.greet()
        for number, sender in enumerate(SENDERS):
            recipient = list(RECIPIENTS)[number % len(RECIPIENTS)]
            # From the first message on the extensions of the next hop are known, so SMTPUTF8 is offered.
            assert (await client.say("EHLO client.example.org")).startswith(b"250")
            assert (await client.say(f"MAIL FROM:{sender}")).startswith(b"250 "), sender
            assert (await client.say(f"RCPT TO:{recipient}")).startswith(b"250 "), recipient
            assert (await client.content(message(f"<{number}@example.org>"))).startswith(b"250 "), sender


async def test_senders_and_recipients_that_postfix_and_exim_take_leave_as_they_came(start_gate: StartGate) -> None:
    async with MailServer(extensions=("PIPELINING", "8BITMIME", "SMTPUTF8")) as server:
        await send_all(start_gate(POLICY.format(domain=DOMAIN, port=server.port)))
    assert [sent.mail.split(" ")[1] for sent in server.messages] == [f"FROM:<{left}>" for left in SENDERS.values()]
    assert [sent.recipients for sent in server.messages[:4]] == [[left] for left in RECIPIENTS.values()]


async def test_a_real_postfix_takes_what_leaves(start_gate: StartGate, postfix: Postfix) -> None:
    await send_all(start_gate(POLICY.format(domain=DOMAIN, port=postfix.port)))
    postfix.deliver()
    assert len(set(postfix.messages())) == len(SENDERS)


async def test_what_is_taken_without_brackets_relays_nothing(start_gate: StartGate) -> None:
    gate = start_gate(POLICY.format(domain=DOMAIN, port=9))
    async with connected(gate.port) as client:
        await client.greet()
        assert (await client.say("MAIL FROM:a@example.org")).startswith(b"250 ")
        for recipient in (
            "a@elsewhere.example",
            "a..b@elsewhere.example.",
            f"a%elsewhere.example@{DOMAIN}.",
            f"elsewhere.example!a..b@{DOMAIN}",
            f'"a@elsewhere.example"@{DOMAIN}',
            f"< .%elsewhere.example@{DOMAIN} >",
            f"<@{DOMAIN}:a@elsewhere.example>",
            f"<@{DOMAIN}:a..b@elsewhere.example.>",
        ):
            assert (await client.say(f"RCPT TO:{recipient}")).startswith(b"550 5.7.1"), recipient
