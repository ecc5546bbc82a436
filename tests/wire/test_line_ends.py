"""Line ends: only CRLF.CRLF ends a message, and what is stored or passed on has canonical line ends."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost_builtin.delivery.forward import Forward
from tests.door import Keeping, LiveDoor, Wire, live
from tests.peers.mail_server import MailServer
from tests.policy import Policy, vouching
from tests.properties import examples
from tests.smuggling import FALSE_ENDS

SMUGGLED = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: smuggled\r\n\r\nEvil\r\n.\r\n"
QUIT = b"QUIT\r\n"


REPLIES = re.compile(rb"(\d{3}[ -][\x20-\x7e]{0,506}\r\n)*")
NOT_CANONICAL = re.compile(rb"\r(?!\n)|(?<!\r)\n|\0")


def policy(line_ends: str, keeping: Keeping) -> Policy:
    return Policy(vouching(), keeping, line_ends=line_ends, limits={"unknown_commands": 10**6, "refusals": 10**6})


def attack(sequence: bytes) -> bytes:
    """A message that holds another one behind ``sequence``: the second one's dot is the real end of the first."""
    return b"Subject: outer\r\n\r\nText" + sequence + SMUGGLED


def canonical(data: bytes) -> bytes:
    """Return the content of ``data``, which ends with the final dot: no dot-stuffing, lone CR and LF as line ends.

    CRs before LF are one line end. Behind CRLF one dot goes, and behind a lone CR or LF one of two.
    """
    return re.sub(rb"\r+\n\.?|[\r\n](\.(?=\.))?", b"\r\n", data.removesuffix(b".\r\n"))


async def transmit(door: LiveDoor, octets: bytes, border: int | None) -> Wire:
    """A client that sends ``octets`` after 354, at once or in two segments that meet at ``border``, and then QUIT."""
    wire = await door.connect()
    assert (await wire.to_data()).startswith(b"354 ")
    if border is not None:
        wire.send(octets[:border])
        await door.received(border)
    wire.send(octets[border or 0 :] + QUIT)
    return wire


def borders(sequence: bytes) -> list[int | None]:
    """No border, and every one in and around ``sequence``."""
    start = attack(sequence).index(b"Text") + 4
    return [None, *range(start, start + len(sequence) + 1)]


class TestSmuggling:
    """Each sequence ends no data, in one segment and in two that meet anywhere in it."""

    @pytest.mark.parametrize("name", [name for name in FALSE_ENDS if "NUL" not in name])
    async def test_only_crlf_dot_crlf_ends_data(self, name: str) -> None:
        octets = attack(FALSE_ENDS[name])
        async with live(policy("normalize", keeping := Keeping())) as door:
            for border in borders(FALSE_ENDS[name]):
                wire = await transmit(door, octets, border)
                assert re.fullmatch(rb"250 [^\r]*\r\n221 [^\r]*\r\n", await wire.rest())
                assert keeping.contents == [canonical(octets)]
                await wire.close()
                await door.left()
                keeping.contents.clear()

    @pytest.mark.parametrize("name", FALSE_ENDS)
    async def test_a_lone_cr_or_lf_with_reject(self, name: str) -> None:
        async with live(policy("reject", keeping := Keeping())) as door:
            for border in borders(FALSE_ENDS[name]):
                wire = await transmit(door, attack(FALSE_ENDS[name]), border)
                assert re.fullmatch(rb"550 5\.6\.0 [^\r]*\r\n", await wire.rest())
                assert not keeping.contents
                await wire.close()
                await door.left()

    @pytest.mark.parametrize("line_ends", ["normalize", "reject"])
    @pytest.mark.parametrize("place", ["Subject: x\0\r\n\r\n", "Subject: x\r\n\r\n\0", "Subject: x\r\n\r\na\r\n\0\r\n"])
    async def test_a_nul_is_always_refused_and_the_connection_closed(self, line_ends: str, place: str) -> None:
        async with live(policy(line_ends, keeping := Keeping())) as door:
            wire = await transmit(door, place.encode() + b"\r\n.\r\n", None)
            assert re.fullmatch(rb"550 5\.6\.0 NUL [^\r]*\r\n", await wire.rest())
            assert not keeping.contents

    async def test_the_true_end_is_read_before_the_refusal(self) -> None:
        async with live(policy("reject", Keeping())) as door:
            wire = await door.connect()
            await wire.to_data()
            wire.send(b"Subject: x\n\r\n" + b"x" * 100_000 + b"\r\n")
            await door.received(100_000)
            assert door.client.conversation.transaction.reader is not None
            wire.send(b".\r\n")
            assert (await wire.rest()).startswith(b"550 5.6.0 ")

    async def test_canonical_messages_pass_with_reject(self) -> None:
        async with live(policy("reject", keeping := Keeping())) as door:
            wire = await transmit(door, b"Subject: x\r\n\r\n..dot\r\n..\r\n.\r\n", None)
            assert (await wire.rest()).startswith(b"250 ")
            assert keeping.contents == [b"Subject: x\r\n\r\n.dot\r\n.\r\n"]


async def test_a_lone_cr_or_lf_inside_a_message_becomes_crlf() -> None:
    async with live(policy("normalize", keeping := Keeping())) as door:
        wire = await transmit(door, b"Subject: x\nTo: y\r\rone\ntwo\rthree\n\rfour\r\n.\r\n", None)
        assert (await wire.rest()).startswith(b"250 ")
        assert keeping.contents == [b"Subject: x\r\nTo: y\r\n\r\none\r\ntwo\r\nthree\r\n\r\nfour\r\n"]


async def test_what_goes_to_the_next_hop_is_re_emitted(forward_to: Callable[..., Forward]) -> None:
    """A next hop that took a lone LF.LF for the end would see a second message; it sees none, and each dot doubled."""
    async with MailServer() as server, live(Policy(vouching(), forward_to(server))) as door:
        octets = attack(b"\n.\n")
        wire = await transmit(door, octets, None)
        assert (await wire.rest()).startswith(b"250 ")
        (message,) = server.messages
        assert message.content.endswith(canonical(octets))
        assert b"\r\n.\r\n" in message.content
        assert not NOT_CANONICAL.search(message.content)


COMMANDS = [b"MAIL FROM:<a@example.com>\r\n", b"RCPT TO:<b@example.org>\r\n", b"DATA\r\n", b"RSET\r\n"]
ENVELOPE = COMMANDS[0] + COMMANDS[1] + COMMANDS[2]
PIECES = [
    b"\r",
    b"\r\r\n",
    b"\n",
    b".",
    b"\r\n",
    b"\r\n.\r\n",
    b"\r\n.\r\n" + ENVELOPE,
    b"x",
    b"\xff",
    b"\r\n\r\n",
    *COMMANDS,
]
STREAMS = st.lists(st.sampled_from([*PIECES, *FALSE_ENDS.values()]), max_size=25).map(b"".join)


def messages(stream: bytes, *, reject: bool) -> list[bytes]:
    """Return what a server that follows RFC 5321 to the letter receives from ``stream``, read from MAIL on."""
    found: list[bytes] = []
    mail = rcpt = False
    while b"\n" in stream:
        line, stream = stream.split(b"\n", 1)
        command = line.rstrip(b"\r") + b"\r\n"
        if command == COMMANDS[3]:
            mail = rcpt = False
        mail = mail or command == COMMANDS[0]
        rcpt = rcpt or (mail and command == COMMANDS[1])
        if command != COMMANDS[2]:
            continue
        if not rcpt:  # a body behind a DATA that is refused is not run
            return found
        head, end, rest = (b"\r\n" + stream).partition(b"\r\n.\r\n")
        if not end or b"\0" in head or (reject and NOT_CANONICAL.search(head + b"\r\n")):
            return found
        content = canonical(head + end)[2:]
        # No line of these is a field, so the header block ends before the first, where an empty line is put in.
        found.append(content if content[:2] in (b"", b"\r\n") else b"\r\n" + content)
        mail = rcpt = False
        stream = rest
    return found


@pytest.mark.parametrize("line_ends", ["normalize", "reject"])
@given(stream=STREAMS)
@examples(150)
async def test_as_many_messages_as_data_that_crlf_dot_crlf_ends(line_ends: str, stream: bytes) -> None:
    rules = policy(line_ends, keeping := Keeping())
    async with live(rules) as door:
        wire = await door.hello()
        wire.send(ENVELOPE + stream)
        wire.half_close()
        assert REPLIES.fullmatch(await wire.rest())
        await door.left()
        assert not rules.events.events
        assert keeping.contents == messages(ENVELOPE + stream, reject=line_ends == "reject")
        assert not any(NOT_CANONICAL.search(sent) for sent in keeping.sent)
