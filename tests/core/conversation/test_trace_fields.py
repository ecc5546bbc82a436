"""The trace fields that we add are true, and neither the client nor anybody before it can write them for us."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import Message, hookimpl
from gatepost.conversation.trace_fields import SEARCHED, forget_forged_results
from gatepost.message.spool import Spool
from tests.policy import MESSAGE, Client, Keeps, Policy


class AsksForTheName:
    """Asks for the client's name, as many plugins do."""

    @hookimpl
    async def connect(self, session: Any) -> None:
        await session.verified_name()


async def received(
    *,
    client: str = "192.0.2.1",
    hello: str = "EHLO client.example.com",
    recipients: int = 1,
    name: str = "",
    mail: str = "",
) -> str:
    """The Received field of a message, folded as it leaves."""
    keeps = Keeps()
    policy = Policy(AsksForTheName(), keeps)
    if name:
        policy.dns.name(client, name)
    made: Client = await policy.connect(client)
    await made.say(hello)
    await made.say(mail or "MAIL FROM:<a@example.com>")
    for number in range(recipients):
        await made.rcpt(f"user{number}@example.org")
    assert (await made.data()).code == 250
    head, _, rest = keeps.content.partition(b"\r\nFrom: ")
    assert rest
    return head.decode()


async def test_received_says_who_gave_us_the_message_and_when() -> None:
    text = await received(name="mail.example.com")
    assert re.fullmatch(
        r"Received: from client\.example\.com \(mail\.example\.com \[192\.0\.2\.1\]\)\r\n"
        r"\tby mx\.example\.org \(gatepost\) with ESMTP id [0-9a-z]{10}\r\n"
        r"\tfor <user0@example\.org>;\r\n"
        r"\tFri, 15 Jan 2027 08:00:00 \+0000",
        text,
    )


@pytest.mark.parametrize(
    ("how", "part"),
    [
        ({"hello": "HELO x"}, "with SMTP id"),
        ({"hello": "EHLO x"}, "with ESMTP id"),
        ({"mail": "MAIL FROM:<a@example.com> SMTPUTF8"}, "with UTF8SMTP id"),
        ({"client": "2001:db8::1"}, "(unknown [IPv6:2001:db8::1])"),
        ({"hello": "EHLO [192.0.2.1]"}, "from [192.0.2.1] (unknown [192.0.2.1])"),
        ({"hello": "EHLO a(b)c;d"}, "from a?b?c?d (unknown"),
        ({"name": "a)b.example.com"}, "(a?b.example.com ["),
        ({"hello": "EHLO " + "x" * 400}, "from " + "x" * 255 + " ("),
    ],
)
async def test_received_holds_the_facts_and_what_the_client_says_of_itself_is_harmless(how: Any, part: str) -> None:
    assert part in await received(**how)


async def test_several_recipients_do_not_learn_of_each_other() -> None:
    assert "for <" not in await received(recipients=2)


# Authentication-Results (RFC 8601 §5).


def left(*values: str) -> list[str]:
    """The Authentication-Results of a message that stay in it as it leaves."""
    content = Spool(None).content()
    header = b"".join(f"Authentication-Results:{value}\r\n".encode() for value in values)
    content.write(header + b"\r\nbody\r\n")
    message = Message(content, len(header))
    forget_forged_results(message, Policy(trusted_results=frozenset({"inner.example.org"})).runtime)
    leaves = b"".join(message.blocks())
    assert leaves.endswith(b"\r\n\r\nbody\r\n") or leaves == b"\r\nbody\r\n"
    return re.findall(r"(?m)^Authentication-Results:(.*)\r$", leaves.decode())


@pytest.mark.parametrize(
    "forged",
    [
        " mx.example.org; spf=pass",
        "mx.example.org;spf=pass",
        " MX.Example.ORG; spf=pass",
        " mx.example.org. ; spf=pass",
        " mx.example.org 1; spf=pass",
        ' "mx.example.org"; spf=pass',
        " (comment) mx.example.org; spf=pass",
        " (a (nested; one) here) mx.example.org; spf=pass",
        " (((((((((a))))))))) mx.example.org (b); spf=pass",
        "\r\n mx.example.org; spf=pass",
        " mx.example.org",
        " inner.example.org; spf=pass",
        ' "Inner.Example.org." 1; spf=pass',
        "(c)inner.example.org(d);spf=pass",
        " (\\) other.example) mx.example.org; spf=pass",
        ' "mx\\.example.org"; spf=pass',
        " =?utf-8?q?mx.example.org?=; spf=pass",
    ],
)
def test_results_that_bear_our_name_are_forged_and_go(forged: str) -> None:
    assert left(" other.example; spf=fail", forged, " third.example; x=y") == [
        " other.example; spf=fail",
        " third.example; x=y",
    ]


@pytest.mark.parametrize(
    "comment", [f"({'a' * SEARCHED})", "(" * SEARCHED, "a" * SEARCHED, f"({'a' * (SEARCHED - 8)})"]
)
def test_results_that_hide_whose_they_are_go(comment: str) -> None:
    assert left(f" {comment} mx.example.org; spf=pass", f" other.example ({comment}); x=y") == [
        f" other.example ({comment}); x=y"
    ]


@pytest.mark.parametrize(
    "value", [" mx.example.org.evil; x=y", " example.org; x=y", " a; mx.example.org", "", " ;", " (mx.example.org) a"]
)
def test_results_of_others_stay(value: str) -> None:
    assert left(value) == [value]


@given(st.text(st.sampled_from('() ;"mx.example.org\\'), max_size=60))
def test_any_value_is_read_without_harm(value: str) -> None:
    assert left(f" {value}", " mx.example.org; x") in ([f" {value}"], [])


async def test_they_go_also_in_old_syntax_and_stay_where_they_are_text() -> None:
    keeps = Keeps()
    client = await Policy(keeps).connect()
    forged = b"Authentication-Results : mx.example.org; spf=pass\r\n"
    assert (await client.transaction(content=b"X: y\r\n" + forged + MESSAGE)).code == 250
    assert keeps.content.endswith(b"\r\nX: y\r\n" + MESSAGE)
    assert b"spf=pass" not in keeps.content
    assert (await client.transaction(content=b"rubbish\r\n" + forged + MESSAGE)).code == 250
    assert keeps.content.endswith(b"\r\n\r\nrubbish\r\n" + forged + MESSAGE)
