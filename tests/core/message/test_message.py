"""Header fields are read without harm, and edits show as the message leaves."""

from __future__ import annotations

import contextvars
import re
from time import thread_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.errors import PluginError, SpoolError
from gatepost.message.message import Headers, Message
from gatepost.message.spool import BLOCK, Spool
from gatepost.write_guard import Observed, forbid_writes
from tests.core.message.feeding import HEADER, read


@pytest.mark.parametrize(
    ("block", "value"),
    [
        (b"Subject: plain\r\n", "plain"),
        (b"Subject:no blank\r\n", "no blank"),
        (b"SUBJECT : old syntax\r\n", "old syntax"),
        (b"Subject: one\r\n two\r\n\tthree\r\n", "one two\tthree"),
        (b"Subject: \r\n folded\r\n", "folded"),
        (b"Subject: one\r\nrubbish\r\n", "one"),
        (b"rubbish before\r\nSubject: found\r\n", "found"),
        (b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n", "grüße"),
        (b"Subject: =?utf-8?b?Z3LDvA==?=\r\n =?utf-8?b?w59l?= end\r\n", "grüße end"),
        (b"Subject: gr\xc3\xbc\xc3\x9fe\r\n", "grüße"),
        (b"Subject: gr\xfc\r\n", "gr�"),
        (b"Subject: a=?b\r\n", "a=?b"),
        (b"Subject: first\r\nSubject: second\r\n", "first"),
        (b"Other: x\r\n", None),
        (b"", None),
    ],
)
def test_a_header_field_is_unfolded_and_decoded(block: bytes, value: str | None) -> None:
    assert Headers(block).get("subject") == value
    assert ("Subject" in Headers(block)) == (value is not None)


@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [b"=?", b"?=", b"?q?", b"?b?", b"utf-8", b"idna", b"hex", b"a", b"=", b"\r\n ", b"\xff", b"utf-16"]
        ),
        max_size=60,
    ).map(b"".join)
)
def test_headers_never_raise(value: bytes) -> None:
    headers = Headers(b"a: " + value + b"\r\n")
    assert all(isinstance(text, str) for _, text in headers)
    assert len(headers) == len(list(headers))


def test_a_header_is_decoded_up_to_128_ki_characters_of_all_its_fields() -> None:
    word = "=?utf-8?q?=C3=BC?="
    headers = Headers(f"Subject: {word * 1024}\r\n".encode() * 10 + b"Last: " + word.encode() + b"\r\n")
    ours = [len(value) for value in headers.get_all("Subject")]
    assert ours[:7] == [1024] * 7
    assert 1024 < ours[7] < len(word) * 1024  # 131,072 characters end within the eighth field
    assert ours[8:] == [len(word) * 1024] * 2
    assert headers.get_all("Subject") == headers.get_all("subject")
    assert headers.get("last") == word


@pytest.mark.parametrize(
    "piece", [b"=?a?q?", b"=?", b"?= =?", b"=?utf-8?q?x?=", b"=?utf-8?q?x?= ", b"\r\n ", b"(", b"=?punycode?q?AAAAAA?="]
)
def test_a_hostile_header_of_a_megabyte_is_read_in_time_that_grows_with_its_size_only(piece: bytes) -> None:
    start = thread_time()
    assert Headers(b"subject: " + piece * (2**20 // len(piece))).get("Subject") is not None
    assert thread_time() - start < 1  # seconds; it is 0.02, and what grows with the square takes minutes


# Header edits.

EDITABLE = b"A: 1\r\nB: 2\r\n folded\r\nA: 3\r\nrubbish\r\na : 4\r\n\r\nA: body\r\n"


def edited(content: bytes = EDITABLE, header_size: int = EDITABLE.index(b"\r\n\r\n") + 2) -> Message:
    kept = Spool(None).content()
    kept.write(content)
    return Message(kept, header_size)


def test_edits_show_as_the_message_leaves_and_not_before() -> None:
    message = edited()
    message.prepend("X", "one")
    message.prepend("Y", "two")
    message.remove("B")
    assert b"".join(message.blocks()) == b"Y: two\r\nX: one\r\nA: 1\r\nA: 3\r\nrubbish\r\na : 4\r\n\r\nA: body\r\n"
    assert read(message) == EDITABLE
    assert message.size == len(EDITABLE)
    assert message.size_out == len(b"".join(message.blocks()))


def test_each_edit_is_made_on_what_the_others_have_left_and_headers_show_it() -> None:
    message = edited()
    headers = message.headers
    message.prepend("X", "one")
    message.prepend("A", "0")
    assert headers.get_all("a") == ["0", "1", "3", "4"]
    message.remove("A", 1)
    message.remove("A", 1)
    message.remove("X")
    message.prepend("X", "two")
    assert message.headers.get_all("x") == ["two"]
    assert "B" in headers
    message.remove("B")
    assert "B" not in headers
    assert b"".join(message.blocks()) == b"X: two\r\nA: 0\r\nrubbish\r\na : 4\r\n\r\nA: body\r\n"
    assert message.size_out == len(b"".join(message.blocks()))
    assert (read(message), message.size) == (EDITABLE, len(EDITABLE))


def test_two_plugins_that_replace_one_field_leave_one() -> None:
    message = edited()
    message.replace("a", f"first {message.headers.get('A')}")
    message.replace("A", f"second {message.headers.get('A')}")
    assert b"".join(message.blocks()) == (b"A: second first 1\r\nB: 2\r\n folded\r\nrubbish\r\n\r\nA: body\r\n")


def test_a_fold_stays_as_it_is_given() -> None:
    message = edited(b"\r\nbody\r\n", header_size=0)
    value = "v=1; a=rsa-sha256;\r\n  d=example.org;\ts=x;\r\n\tb=abc\r\n def"
    message.prepend("DKIM-Signature", value)
    message.prepend("X", "one\n two\r\n \r\n three\r\n")
    assert b"".join(message.blocks()) == (
        b"X: one\r\n two\r\n three\r\nDKIM-Signature: " + value.encode() + b"\r\n\r\nbody\r\n"
    )


@pytest.mark.parametrize("smtputf8", [False, True])
def test_what_is_beyond_ascii_is_encoded_unless_smtputf8_is_asked(smtputf8: bool) -> None:
    kept = Spool(None).content()
    kept.write(b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nbody\r\n")
    message = Message(kept, 38, smtputf8=smtputf8)
    message.replace("Subject", f"[SPAM] {message.headers.get('Subject')}")
    assert message.headers.get("subject") == "[SPAM] Grüße"
    assert message.eight_bit is smtputf8
    field = "Subject: [SPAM] Grüße".encode() if smtputf8 else b"Subject: [SPAM] =?utf-8?q?Gr=C3=BC=C3=9Fe?="
    assert b"".join(message.blocks()) == field + b"\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("index", "left"),
    [
        (None, b"B: 2"),
        (0, b"B: 2"),
        (1, b"A: 1\r\nB: 2"),
        (2, b"A: 1\r\nB: 2\r\n folded\r\nA: 3\r\nrubbish\r\n\r\n"),
        (3, EDITABLE),
    ],
)
def test_a_field_is_removed_by_its_place_among_those_of_its_name(index: int | None, left: bytes) -> None:
    message = edited()
    values = message.headers.get_all("a")
    message.remove("a", index)
    out = b"".join(message.blocks())
    assert out.startswith(left)
    assert out.endswith(b"\r\n\r\nA: body\r\n")
    kept = Headers(out.partition(b"\r\n\r\n")[0] + b"\r\n").get_all("a")
    assert kept == ([] if index is None else [value for place, value in enumerate(values) if place != index])


@pytest.mark.parametrize("name", ["", "a b", "a:", "grüße", "a\r\nb"])
def test_a_bad_name_of_a_field_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        edited().prepend(name, "x")


VALUES = st.lists(
    st.sampled_from(
        ["\r\n", "\r", "\n", " ", "\t", "word:", "X: y", "\x85", "\u2028", "\0", "ü", "日本", "\udc80", "x" * 30]
    )
).map("".join) | st.text(max_size=200)


@pytest.mark.parametrize("smtputf8", [False, True])
@pytest.mark.parametrize("verb", [Message.prepend, Message.replace])
@given(value=VALUES)
def test_no_value_breaks_out_of_its_field(smtputf8: bool, verb: Any, value: str) -> None:
    kept = Spool(None).content()
    kept.write(b"\r\nbody\r\n")
    verb(message := Message(kept, 0, smtputf8=smtputf8), "X-Test", value)
    head, _, body = b"".join(message.blocks()).partition(b"\r\n\r\n")
    first, *others = head.split(b"\r\n")
    assert body == b"body\r\n"
    assert first.startswith(b"X-Test: ")
    assert all(line.startswith((b" ", b"\t")) and line.strip() for line in others)
    assert not re.search(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n", head)
    assert len(head.decode().splitlines()) == len(others) + 1
    assert smtputf8 or head.isascii()
    assert len(message.headers) == 1


def test_who_is_only_observed_edits_nothing_and_leaves_a_trace() -> None:
    message = edited()
    with Observed((message,)) as observed:
        message.prepend("X", "one")
        message.remove("A")
        message.replace("B", "two")
    assert b"".join(message.blocks()) == EDITABLE
    assert observed.withheld == ("message.prepend('X')", "message.remove('A')", "message.replace('B')")


def test_a_look_up_ahead_must_not_edit() -> None:
    def look_up() -> None:
        forbid_writes()
        message.prepend("X", "one")

    message = edited()
    with pytest.raises(PluginError, match="must not write"):
        contextvars.copy_context().run(look_up)


def test_a_message_leaves_in_blocks_of_a_bounded_size() -> None:
    kept = Spool(None).content()
    kept.write(HEADER + b"\r\n" + b"x" * (3 * BLOCK))
    sizes = [len(block) for block in Message(kept, len(HEADER)).blocks()]
    assert max(sizes) == BLOCK
    assert sum(sizes) == kept.size


def test_a_message_that_the_spool_has_released_does_not_end_as_if_it_were_whole() -> None:
    kept = Spool(None).content()
    kept.write(HEADER + b"\r\n" + b"x" * (3 * BLOCK))
    message = Message(kept, len(HEADER))
    blocks = message.blocks()
    next(blocks)
    message.close()
    with pytest.raises(SpoolError, match="the message is no longer in the spool"):
        list(blocks)
