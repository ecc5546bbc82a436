"""Each phase in which a plugin can refuse has its reply codes, and no line of a reply exceeds 512 octets."""

from __future__ import annotations

import pytest

from gatepost.decisions import deny
from gatepost.hookspecs import ALL_RUN, PHASES
from gatepost.replies import PHASE_CODES, Reply, hello, refusal


def test_every_phase_in_which_a_plugin_can_refuse_has_reply_codes_and_no_other() -> None:
    can_refuse = set(PHASES) - ALL_RUN - {"greeting"}
    assert set(PHASE_CODES) == can_refuse, "a phase has codes in PHASE_CODES, or is in ALL_RUN because nobody decides"


@pytest.mark.parametrize(("status", "most"), [(None, 506), ("5.7.1", 500), ("5.999.999", 496)])
def test_a_text_is_one_line_up_to_512_octets_and_two_lines_from_the_next_letter_on(
    status: str | None, most: int
) -> None:
    prefix = f"{status} " if status else ""
    assert Reply(550, "x" * most, status).wire.decode() == f"550 {prefix}{'x' * most}\r\n"
    assert len(Reply(550, "x" * most, status).wire) == 512
    assert Reply(550, "x" * (most + 1), status).wire.decode() == (
        f"550-{prefix}{'x' * most}\r\n550 {prefix}x\r\n"  # the status stands in every line (RFC 2034 §4)
    )


def test_words_stay_whole_where_a_text_is_split() -> None:
    lines = Reply(550, "word " * 250, "5.7.1").wire.decode().splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 510 and set(line[10:].split(" ")) == {"word"} for line in lines)
    assert [line[3] for line in lines] == ["-", "-", " "]


def test_a_refusal_that_fills_a_line_keeps_its_id_whole() -> None:
    for length in range(470, 500):
        reply = refusal("rcpt", deny("x" * length), "3k9q0zf7ab")
        lines = reply.wire.decode().splitlines(keepends=True)
        assert all(len(line) <= 512 for line in lines)
        assert lines[-1].endswith("[3k9q0zf7ab]\r\n")
        assert (len(lines) == 1) is (length + len(" [3k9q0zf7ab]") <= 500)


def test_a_keyword_of_ehlo_that_is_too_long_for_a_line_breaks_no_line() -> None:
    lines = hello("mx.example.org", ("X" * 506, "Y" * 507, "SIZE 1")).wire.decode().splitlines(keepends=True)
    assert [len(line) for line in lines] == [
        len("250-mx.example.org\r\n"),
        512,
        512,
        len("250-Y\r\n"),
        len("250 SIZE 1\r\n"),
    ]
