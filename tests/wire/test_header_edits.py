"""What plugins write into a header, as it reaches a next hop over a real socket."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatepost import Message, hookimpl
from gatepost_builtin.delivery.forward import Forward
from tests.door import live
from tests.peers.mail_server import MailServer
from tests.policy import Policy, vouching


class Marking:
    """Marks the subject, as filters do."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    @hookimpl
    def message(self, message: Message) -> None:
        message.replace("Subject", f"{self.mark} {message.headers.get('Subject')}")


async def test_a_marked_subject_leaves_as_ascii_and_once(forward_to: Callable[..., Forward]) -> None:
    async with (
        MailServer(extensions=["PIPELINING"]) as server,
        live(Policy(vouching(), Marking("[SPAM]"), Marking("[Über 9000]"), forward_to(server))) as door,
    ):
        wire = await door.hello()
        await wire.envelope()
        assert (await wire.message(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nTo: b\r\n\r\nbody\r\n")).startswith(
            b"250 "
        )
    (message,) = server.messages
    assert message.mail == "MAIL FROM:<a@example.com>"
    fields, _, body = message.content.partition(b"\r\n\r\n")
    assert fields.startswith(
        b"Subject: =?utf-8?q?=5B=C3=9Cber?= 9000] [SPAM]\r\n =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nReceived: "
    )
    assert fields.endswith(b"\r\nTo: b")
    assert fields.count(b"Subject: ") == 1
    assert body == b"body\r\n"


@pytest.mark.parametrize("headers_first", [False, True])
async def test_8_bit_that_only_the_body_holds_is_declared(
    forward_to: Callable[..., Forward], headers_first: bool
) -> None:
    header, body = b"Subject: x\r\n\r\nfirst", "grüße\r\n".encode()
    async with MailServer() as server, live(Policy(vouching(), Marking("[x]"), forward_to(server))) as door:
        wire = await door.connect()
        await wire.to_data()
        if headers_first:
            wire.send(header)
            await door.received(len(header))
        wire.send(header[len(header) * headers_first :] + body + b".\r\n")
        assert (await wire.reply()).startswith(b"250 ")
    (message,) = server.messages
    assert "BODY=8BITMIME" in message.mail
    assert message.content.endswith(b"\r\n\r\nfirst" + body)


class Naming:
    """Adds a field beyond ASCII before the body has come."""

    @hookimpl
    def headers(self, message: Message) -> None:
        message.prepend("X-Name", "Grüße")


@pytest.mark.parametrize(
    ("parameters", "field", "declared"),
    [(b"", b"X-Name: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", False), (b" SMTPUTF8", "X-Name: Grüße".encode(), True)],
)
async def test_a_field_of_a_plugin_is_raw_and_declared_only_with_smtputf8(
    forward_to: Callable[..., Forward], parameters: bytes, field: bytes, declared: bool
) -> None:
    async with (
        MailServer(extensions=["PIPELINING", "8BITMIME", "SMTPUTF8"]) as server,
        live(Policy(vouching(), Naming(), forward_to(server))) as door,
    ):
        await (await door.hello()).envelope()  # the next hop is asked, and its extensions are known from now on
        wire = await door.hello()
        await wire.envelope(b"<a@example.com>" + parameters)
        assert (await wire.message(b"Subject: x\r\n\r\nbody\r\n")).startswith(b"250 ")
    (message,) = server.messages
    assert message.content.startswith(field + b"\r\nReceived: ")
    assert ("BODY=8BITMIME" in message.mail) is declared


class Scanning:
    """Adds a field of its own, as scanners do."""

    @hookimpl
    def message(self, message: Message) -> None:
        message.replace("X-Spam-Flag", "NO")


async def test_forged_results_go_and_a_field_of_a_plugin_is_its_own(forward_to: Callable[..., Forward]) -> None:
    forged = (
        b"Authentication-Results: mx.example.org; spf=pass\r\n"
        b"Authentication-Results: (x)\r\n Inner.example.org; dkim=pass\r\n"
        b"x-spam-flag : YES\r\n\tfolded\r\n"
    )
    others = b"Authentication-Results: mx.elsewhere.example; spf=pass\r\n"
    rules = {"trusted_results": frozenset({"inner.example.org"})}
    async with (
        MailServer() as server,
        live(Policy(vouching(), Scanning(), forward_to(server), **rules)) as door,
    ):
        wire = await door.hello()
        await wire.envelope()
        assert (await wire.message(forged + others + b"Subject: x\r\n\r\nbody\r\n")).startswith(b"250 ")
    (message,) = server.messages
    assert message.content.startswith(b"X-Spam-Flag: NO\r\nReceived: ")
    assert message.content.endswith(b"+0000\r\n" + others + b"Subject: x\r\n\r\nbody\r\n")
