"""Every refusal leaves a record, also one that no plugin was asked for, and every session says how it ended."""

from __future__ import annotations

import pytest

from gatepost import defer, hookimpl
from gatepost.replies import IDLE
from tests.policy import Policy, delivering, instance, vouching


@pytest.mark.parametrize(
    ("line", "phase", "reply"),
    [
        ("MAIL FROM:<a@example.com> SIZE=99999999999", "mail", "552 5.3.4"),
        ("MAIL FROM:<a@example.com> FOO=bar", "mail", "555 5.5.4"),
        ("RCPT TO:<b@example.org>", "rcpt", "503 5.5.1"),
        ("DATA", "data", "503 5.5.1"),
        ("EXPN list", "unknown_command", "502 5.5.1"),
        ("NONSENSE", "unknown_command", "500 5.5.1"),
        ("GET / HTTP/1.1", "unknown_command", "421 4.7.0"),
    ],
)
async def test_a_refusal_by_a_rule_of_the_wire_is_recorded(line: str, phase: str, reply: str) -> None:
    policy = Policy(vouching(), delivering())
    client = await policy.connect()
    await client.ehlo()
    await client.say(line)
    (record,) = policy.events.records
    assert (record.event, record.plugin, record.phase) == ("refused", "gatepost", phase)
    assert record.reply.startswith(reply)


async def test_a_refusal_by_a_plugin_is_recorded_once() -> None:
    class Busy:
        @hookimpl
        def rcpt(self) -> object:
            return defer("busy")

    policy = Policy(instance(Busy(), "busy"), vouching(), delivering())
    client = await policy.connect()
    await client.transaction()
    (record,) = policy.events.records
    assert record.plugin == "busy"


async def test_the_end_of_a_session_says_why_the_door_ended_it() -> None:
    policy = Policy(vouching(), delivering())
    client = await policy.connect()
    await client.rehearsal.conversation.close(IDLE)
    (record,) = policy.events.records
    assert (record.event, record.reply) == ("disconnected", "421 4.4.2 idle too long")
