"""Targets, answers, dot-stuffing and XFORWARD, without a network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.services.next_hop.syntax import MAX_COMMAND, Answer, DotStuffing, Target, take_reply, xforward_lines


@pytest.mark.parametrize(
    ("text", "target", "written"),
    [
        ("smtp://mail.example:2525", Target("smtp", "mail.example", 2525), "smtp://mail.example:2525"),
        ("smtp://mail.example", Target("smtp", "mail.example", 25), "smtp://mail.example:25"),
        ("lmtp://mail.example", Target("lmtp", "mail.example", 24), "lmtp://mail.example:24"),
        ("lmtp://[::1]:2424", Target("lmtp", "::1", 2424), "lmtp://[::1]:2424"),
        ("LMTP://Mail.Example", Target("lmtp", "mail.example", 24), "lmtp://mail.example:24"),
        ("lmtp:///run/dovecot/lmtp", Target("lmtp", path="/run/dovecot/lmtp"), "lmtp:///run/dovecot/lmtp"),
    ],
)
def test_a_target_is_read_and_written(text: str, target: Target, written: str) -> None:
    assert Target.parse(text) == target
    assert str(target) == written
    assert Target.parse(written) == target


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with"),
        ("mail.example:25", "does not begin with"),
        ("smtp:mail.example", "does not begin with"),
        ("http://mail.example", "does not begin with"),
        ("smtp://", "host is missing"),
        ("smtp://:25", "host is missing"),
        ("smtp:///run/socket", "host is missing"),
        ("lmtp://", "host is missing"),
        ("lmtp:///", "host is missing"),
        ("lmtp://:24/run/socket", "host is missing"),
        ("lmtp://mail.example/run/socket", "path may not follow a host"),
        ("smtp://mail.example:0", "port 0"),
        ("smtp://mail.example:65536", "Port out of range"),
        ("smtp://mail.example:smtp", "Port could not be cast"),
        ("smtp://[::1", "Invalid IPv6 URL"),
        ("smtp://me@mail.example", "more than a host"),
        ("smtp://mail.example?tls=off", "more than a host"),
        ("smtp://mail.example:25\n", "control character"),
        ("smtp://mail example", "a blank"),
        (f"smtp://{'a' * 64}.example", "label"),
    ],
)
def test_what_is_no_target_is_named_with_what_is_allowed(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as raised:
        Target.parse(text)
    assert "lmtp:///path/to/socket" in str(raised.value)


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (b"250 2.1.0 fine\r\n", Answer(250, "2.1.0", "fine")),
        (b"250 fine\n", Answer(250, None, "fine")),
        (b"250\r\n", Answer(250, None, "")),
        (b"250 2.0.0\r\n", Answer(250, "2.0.0", "")),
        (b"550-5.1.1 no such\r\n550 5.1.1 user\r\n", Answer(550, "5.1.1", "no such user")),
        (b"550 4.1.1 classes differ\r\n", Answer(550, None, "4.1.1 classes differ")),
        (b"354 5.1.1 is no status here\r\n", Answer(354, None, "5.1.1 is no status here")),
        (b"451 4.7.1234 too long\r\n", Answer(451, None, "4.7.1234 too long")),
        (b"550 a\tb\x1b[31m\x00c\r\n", Answer(550, None, "a b [31m c")),
        ("550 größer\r\n".encode(), Answer(550, None, "gr\\xf6\\xdfer")),
        (b"550 \xff\r\n", Answer(550, None, "\\udcff")),
    ],
)
def test_a_reply_becomes_an_answer(received: bytes, answer: Answer) -> None:
    buffer = bytearray(received + b"250 next\r\n")
    assert take_reply(buffer) == answer
    assert buffer == b"250 next\r\n"


@pytest.mark.parametrize("received", [b"", b"250", b"250 fine\r", b"250-first\r\n", b"250-first\r\n250 las"])
def test_a_reply_that_is_not_whole_is_waited_for(received: bytes) -> None:
    buffer = bytearray(received)
    assert take_reply(buffer) is None
    assert buffer == received


@pytest.mark.parametrize(
    "received", [b"HTTP/1.1 400 Bad Request\r\n", b"\r\n", b"25 x\r\n", b"650 x\r\n", b"250_x\r\n"]
)
def test_what_is_no_reply_is_an_error(received: bytes) -> None:
    with pytest.raises(ValueError, match="no SMTP reply"):
        take_reply(bytearray(received))


@given(st.binary(max_size=300))
def test_no_octets_break_the_reply_parser_otherwise(received: bytes) -> None:
    buffer = bytearray(received)
    try:
        answer = take_reply(buffer)
    except ValueError:
        return
    if answer is None:
        assert buffer == received
    else:
        assert str(answer).isascii() and str(answer).isprintable()
        assert len(buffer) < len(received)


def test_an_answer_is_of_one_class() -> None:
    def classes(code: int) -> tuple[bool, bool, bool]:
        answer = Answer(code, None, "")
        return answer.is_positive, answer.is_temporary, answer.is_permanent

    assert [classes(code) for code in (250, 354, 451, 550)] == [
        (True, False, False),
        (False, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_an_answer_is_written_as_it_was_said() -> None:
    assert str(Answer(550, "5.1.1", "no such user")) == "550 5.1.1 no such user"
    assert str(Answer(250, None, "")) == "250"


# Mostly what stuffing is about, so that borders fall everywhere in it.
contents = st.lists(st.sampled_from([b"\r\n", b".", b"..", b"\r", b"\n", b"a"]), max_size=12).map(b"".join)


def unstuffed(wire: bytes) -> bytes:
    """Undo dot-stuffing as RFC 5321 §4.5.2 says a server does, up to the first final dot."""
    content, _, rest = (b"\r\n" + wire).partition(b"\r\n.\r\n")
    assert rest == b"", "the message ended early"
    return (content + b"\r\n").replace(b"\r\n.", b"\r\n")[2:]


@given(st.lists(contents))
def test_dot_stuffing_is_undone_by_the_receiver_wherever_blocks_end(blocks: list[bytes]) -> None:
    stuffing = DotStuffing()
    wire = b"".join([*map(stuffing.feed, blocks), stuffing.end()])
    content = b"".join(blocks)
    assert unstuffed(wire) == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")


def test_xforward_values_are_xtext() -> None:
    (line,) = xforward_lines({"NAME": "a+b=c d", "ADDR": "192.0.2.1", "HELO": "", "IDENT": "é"})
    assert line == "XFORWARD NAME=a+2Bb+3Dc+20d ADDR=192.0.2.1 HELO=[UNAVAILABLE] IDENT=+C3+A9"


def test_xforward_writes_ipv6_as_postfix_reads_it() -> None:
    assert list(xforward_lines({"ADDR": "2001:db8::1"})) == ["XFORWARD ADDR=IPV6:2001:db8::1"]
    assert list(xforward_lines({"ADDR": "IPv6:2001:db8::1"})) == ["XFORWARD ADDR=IPv6:2001:db8::1"]


def test_xforward_keeps_lines_within_the_limit() -> None:
    attributes = {"NAME": "n" * 255, "ADDR": "192.0.2.1", "HELO": "h" * 255, "PROTO": "ESMTP"}
    lines = list(xforward_lines(attributes))
    assert all(len(line) <= MAX_COMMAND for line in lines)
    assert " ".join(line.removeprefix("XFORWARD ") for line in lines).split() == [
        f"{name}={value}" for name, value in attributes.items()
    ]


def test_xforward_of_nothing_says_nothing() -> None:
    assert list(xforward_lines({})) == []
