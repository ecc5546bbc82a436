"""Texts of plugins are clean before they reach the wire, and each reply obeys RFC 5321, 3463 and 2034."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import Decision, accept, defer, deny, points
from gatepost.decisions import TEXT_LIMIT, Action
from gatepost.replies import PHASE_CODES, START_DATA, Reply, greeting, hello, internal_error, refusal

ANY_TEXT = st.text(st.characters(), max_size=2000)


def lines_of(reply: Reply) -> list[bytes]:
    assert reply.wire.endswith(b"\r\n")
    return reply.wire[:-2].split(b"\r\n")


# The text.


@pytest.mark.parametrize(
    ("given_text", "text"),
    [
        ("bad\r\n250 OK", "bad 250 OK"),
        ("a\nb", "a b"),
        ("a\0b\x7fc\td", "a b c d"),
        ("grüße", "gr??e"),
        ("\x1b[31mred", "[31mred"),
        ("line\u2028separator", "line?separator"),
        ("lone surrogate \udc80", "lone surrogate ?"),
        ("", ""),
    ],
)
def test_no_control_octet_and_nothing_beyond_ascii_stays_in_a_text(given_text: str, text: str) -> None:
    assert deny(given_text).text == text


@given(ANY_TEXT)
def test_any_text_makes_a_reply_of_printable_lines_within_512_octets(text: str) -> None:
    for decision in (deny(text), defer(text, disconnect=True)):
        for line in lines_of(refusal("rcpt", decision, "k3v9q0zf7a")):
            assert len(line) + 2 <= 512
            assert re.fullmatch(rb"[\x20-\x7e]+", line)


@given(ANY_TEXT, st.sampled_from(sorted(PHASE_CODES)), st.booleans(), st.booleans())
def test_every_line_of_a_refusal_repeats_code_and_status_which_agree(
    text: str, phase: str, permanent: bool, disconnect: bool
) -> None:
    decision = deny(text, disconnect=disconnect) if permanent else defer(text, disconnect=disconnect)
    reply = refusal(phase, decision, "k3v9q0zf7a")
    *first, last = lines_of(reply)
    head = f"{reply.code}{{}}{reply.status} ".encode()
    assert all(line.startswith(head.replace(b"{}", b"-")) for line in first)
    assert last.startswith(head.replace(b"{}", b" "))
    assert reply.status is not None and reply.status[0] == str(reply.code)[0]


@pytest.mark.parametrize("length", [1, 400, 600, TEXT_LIMIT, TEXT_LIMIT + 1, 100_000])
def test_the_id_stands_at_the_end_of_the_last_line_however_long_the_text(length: int) -> None:
    reply = refusal("rcpt", deny("long word " * (length // 10 + 1)), "k3v9q0zf7a")
    assert lines_of(reply)[-1].endswith(b"[k3v9q0zf7a]")
    assert len(reply.wire) < TEXT_LIMIT * 1.1


def test_a_long_text_becomes_several_lines_and_loses_no_word() -> None:
    words = [f"word{number}" for number in range(200)]
    reply = Reply(550, " ".join(words), "5.7.1")
    assert len(lines_of(reply)) > 1
    assert " ".join(reply.lines()).split() == words


def test_a_text_of_blanks_alone_is_still_a_reply() -> None:
    assert Reply(250, " " * 600, "2.0.0").wire.startswith(b"250 2.0.0")


def test_a_text_of_several_lines_is_a_multi_line_reply() -> None:
    assert Reply(214, ("one", "two"), "2.0.0").wire == b"214-2.0.0 one\r\n214 2.0.0 two\r\n"


# Codes.


@pytest.mark.parametrize(
    "make",
    [
        lambda: deny("x", code=450),
        lambda: deny("x", code=250),
        lambda: deny("x", status="4.7.1"),
        lambda: deny("x", status="5.7"),
        lambda: deny("x", status="5.7.1\r\n250 OK"),
        lambda: defer("x", code=550),
        lambda: defer("x", code=421, status="5.7.1"),
        lambda: Decision(Action.DENY, "x", code=250),
        lambda: Decision(Action.DEFER, "x", status="2.0.0"),
        lambda: Decision(Action.ACCEPT, "x", code=550),
    ],
)
def test_a_code_or_status_of_another_class_is_refused_where_it_is_made(make: object) -> None:
    with pytest.raises(ValueError, match="is not"):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("number", [True, float("nan"), float("inf"), 1e7, "3", None])
def test_points_are_a_finite_number(number: object) -> None:
    with pytest.raises(ValueError, match="must be a number"):
        points(number, "why")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("phase", "decision", "start"),
    [
        ("connect", deny("x"), "554 5.7.1 x"),
        ("connect", defer("x"), "421 4.7.0 x"),
        ("helo", deny("x"), "550 5.7.1 x"),
        ("helo", defer("x"), "450 4.7.1 x"),
        ("starttls", deny("x"), "454 4.7.0 x"),
        ("starttls", deny("x", status="5.7.1"), "454 4.7.1 x"),
        ("starttls", deny("x", code=554), "554 5.7.0 x"),
        ("auth", deny("x"), "535 5.7.8 x"),
        ("mail", deny("x"), "550 5.7.1 x"),
        ("rcpt", defer("x"), "450 4.7.1 x"),
        ("rcpt", deny("x", code=552, status="5.2.2"), "552 5.2.2 x"),
        ("data", deny("x"), "554 5.7.1 x"),
        ("data", defer("x"), "451 4.7.1 x"),
        ("headers", deny("x"), "550 5.7.1 x"),
        ("message", defer("x"), "451 4.7.1 x"),
        ("queue", deny("x"), "554 5.7.1 x"),
        ("queue", defer("x"), "451 4.3.0 x"),
        ("rcpt", deny(""), "550 5.7.1 refused"),
        ("rcpt", defer(""), "450 4.7.1 try again later"),
    ],
)
def test_each_phase_has_its_own_codes(phase: str, decision: Decision, start: str) -> None:
    assert refusal(phase, decision, "id").wire == f"{start} [id]\r\n".encode()


@pytest.mark.parametrize("phase", ["helo", "rcpt", "message"])
def test_disconnect_makes_421_of_a_defer_and_leaves_a_deny_its_code(phase: str) -> None:
    deferred = refusal(phase, defer("x", code=450, disconnect=True), "id")
    denied = refusal(phase, deny("x", disconnect=True), "id")
    assert (deferred.code, deferred.status, deferred.close) == (421, "4.7.0", True)
    assert (denied.code, denied.close) == (550, True)


def test_a_refusal_at_connect_always_closes() -> None:
    assert refusal("connect", deny("x"), "id").close
    assert not refusal("rcpt", deny("x"), "id").close


def test_the_banner_354_and_the_answer_to_helo_have_no_status() -> None:
    assert greeting("mx.example.org ESMTP").wire == b"220 mx.example.org ESMTP\r\n"
    assert START_DATA.wire.startswith(b"354 end data")
    assert hello("mx.example.org").wire == b"250 mx.example.org\r\n"
    assert (
        hello("mx.example.org", ("SIZE 1", "8BITMIME")).wire == b"250-mx.example.org\r\n250-SIZE 1\r\n250 8BITMIME\r\n"
    )


def test_a_fault_of_ours_is_temporary_and_says_no_more_than_its_id() -> None:
    assert internal_error("id").wire == b"451 4.3.0 local error, try again later [id]\r\n"
    assert internal_error("id", close=True).code == 421


def test_a_decision_says_itself_in_words() -> None:
    assert str(points(-2.5, "known")) == "points -2.5: known"
    assert str(deny("no", code=554, status="5.7.9")) == "deny 554 5.7.9 no"
    assert str(accept()) == "accept"
