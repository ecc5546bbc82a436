"""The running server logs JSON lines that fail2ban can read and in which no client can forge a field.

fail2ban itself is not needed. Its filter is one regular expression, in which it replaces ``<ADDR>`` by its own pattern
for addresses (fail2ban 1.0, ``server/failregex.py``), and which it applies after cutting the date out of the line.
"""

from __future__ import annotations

import configparser
import re
from datetime import datetime, timedelta
from pathlib import Path

from tests.end_to_end.client import connected, message
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate

FILTER = Path(__file__).parents[2] / "docs" / "examples" / "fail2ban-gatepost.conf"
ADDRESS = (
    r"\[?(?:(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})|(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}"
    r"(?:[0-9a-fA-F]{1,4}|(?<=:):)))\]?"
)
POLICY = """
[plugins]
order = ["access", "earlytalker", "recipients", "discard"]
[plugins.access]
allow = [{{ network = "127.0.0.8" }}]
deny = [{{ sender = "bad@example.org", reason = "we know you" }}]
[plugins.earlytalker]
delay = "{delay}"
[plugins.recipients]
domains = ["example.test"]
"""
FORGERY = 'x","event":"refused","plugin":"earlytalker","client":"192.0.2.66'
QUOTED_FORGERY = '"{}"@example.net'.format(FORGERY.replace('"', r"\""))
MAIL = message("<x@example.org>")


def banned(gate: Gate) -> list[str]:
    """Return the addresses that fail2ban would count, one for each line of the log that its filter matches."""
    section = configparser.ConfigParser(interpolation=None)
    section.read(FILTER)
    failregex = section["Definition"]["failregex"]
    date = re.compile(re.sub("%%[YmdHMS]", r"\\d+", section["Definition"]["datepattern"]))
    lines = (gate.folder / "log").read_text().splitlines()
    found = [re.search(failregex.replace("<ADDR>", ADDRESS), date.sub("", line, count=1)) for line in lines]
    return [each["ip4"] or each["ip6"] for each in found if each]


async def talk_early(gate: Gate, source: str) -> None:
    async with connected(gate.port, source=source) as client:
        client.wire.send(b"EHLO " + FORGERY.encode() + b"\r\n")
        assert (await client.reply()).startswith(b"554 5.5.1")


async def be_refused(gate: Gate, source: str, helo: str, recipient: str = "b@example.net") -> None:
    async with connected(gate.port, source=source) as client:
        await client.greet(helo)
        assert (await client.envelope([recipient]))[0].startswith(b"550")


async def test_fail2ban_finds_early_talkers_and_cannot_be_made_to_ban_others(start_gate: StartGate) -> None:
    # On the busiest machine a client talks before this is over. 127.0.0.8 is trusted and need not wait.
    gate = start_gate(POLICY.format(delay="240s"))
    await be_refused(gate, "127.0.0.8", FORGERY)
    await be_refused(gate, "127.0.0.8", "client.example.org", QUOTED_FORGERY)
    await talk_early(gate, "127.0.0.9")
    await talk_early(gate, "127.0.0.10")
    gate.stop()

    assert banned(gate) == ["127.0.0.9", "127.0.0.10"]
    assert len(gate.lines("refused", client="127.0.0.8", helo=FORGERY, plugin="recipients")) == 1


async def test_a_refusal_a_message_and_the_end_of_a_session_are_one_line_each(start_gate: StartGate) -> None:
    gate = start_gate(POLICY.format(delay="200ms"))
    async with connected(gate.port, source="127.0.0.7") as client:
        await client.greet("client.example.org")
        refusal = await client.transaction("b@example.test", MAIL, sender="bad@example.org")
        await client.say("RSET")
        taken = await client.transaction("b@example.test", MAIL, sender="good@example.org")
        await client.say("QUIT")
    gate.stop()

    (refused,), (accepted,), (ended,) = (
        gate.lines(event, client="127.0.0.7", helo="client.example.org")
        for event in ("refused", "accepted", "disconnected")
    )
    assert refusal.decode().strip() == refused["outcome"] and refused["id"] in refused["outcome"]
    assert (refused["plugin"], refused["sender"]) == ("access", "bad@example.org")
    assert (accepted["plugin"], accepted["recipients"]) == ("discard", ["b@example.test"])
    assert taken.decode().strip() == accepted["outcome"] and accepted["id"] in accepted["outcome"]
    assert refused["session"] == accepted["session"] == ended["session"] and "id" not in ended
    assert ended["seconds"] >= 0.2
    logged = [datetime.fromisoformat(line["timestamp"]) for line in gate.log]
    assert logged == sorted(logged) and {time.utcoffset() for time in logged} == {timedelta(0)}


async def test_unprintable_characters_of_a_client_never_reach_the_log(start_gate: StartGate) -> None:
    gate = start_gate(POLICY.format(delay="200ms"))
    hostile = "x\u202e\ufeff\u200f\x9b31m"
    await be_refused(gate, "127.0.0.8", hostile)
    gate.stop()

    text = (gate.folder / "log").read_text()
    assert all(character.isprintable() or character == "\n" for character in text)
    assert gate.lines("refused", helo=hostile)
