"""A message is the same however the network cuts it, and ends only at CRLF.CRLF."""

from __future__ import annotations

import re
from pathlib import Path
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.message.spool import BLOCK, Spool
from gatepost.replies import (
    BARE_LINE_END,
    HEADERS_TOO_BIG,
    MAIL_LOOP,
    NUL_IN_MESSAGE,
    TEXT_LINE_TOO_LONG,
    TOO_BIG,
    Reply,
)
from tests.core.message.feeding import HEADER, feed, read, reader_of, sent
from tests.smuggling import FALSE_ENDS

# The octets that matter to line ends, dots and headers, in any order.
WILD = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"\r\r\n",
            b"\r" * 33,
            b".",
            b"..",
            b"a",
            b"a: b",
            b"From ",
            b">From x\r\n",
            b"\xef\xbb\xbf",
            b" ",
            b"\xc3\xa9",
            b"\r\n.",
            b"x" * 20,
        ]
    ),
    max_size=40,
).map(b"".join)
CUTS = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


# The whole and its parts.


@given(WILD, CUTS, st.sampled_from([b"", b"MAIL FROM:<a@example.com>\r\n", b"\r\n.\r\n"]))
def test_any_cut_of_the_octets_gives_the_same_message_and_the_same_rest(
    octets: bytes, cuts: list[int], behind: bytes
) -> None:
    whole, parts = reader_of(), reader_of()
    stream = octets + b"\r\n.\r\n" + behind
    assert feed(whole, stream) == feed(parts, stream, cuts)
    assert read(whole.message()) == read(parts.message())
    assert whole.header_size == parts.header_size
    assert whole.eight_bit == parts.eight_bit
    assert whole.names_results == parts.names_results
    assert whole.message().headers.get_all("a") == parts.message().headers.get_all("a")


@pytest.mark.parametrize("cuts", [[], [10], range(200)])
def test_the_reader_notes_whether_the_headers_name_results_of_authentication(cuts: list[int]) -> None:
    field = b"X: y\r\nAUTHENTICATION-Results : mx.example.org; spf=pass\r\n"
    for content, names in [
        (HEADER + field + b"\r\nhello\r\n", True),
        (HEADER + field, True),
        (HEADER + b"\r\n" + field, False),
        (b"\r\n" + field, False),
    ]:
        reader = reader_of()
        assert feed(reader, sent(content), list(cuts)) == b""
        assert reader.names_results is names


@given(WILD, CUTS)
def test_any_cut_gives_the_same_verdict(octets: bytes, cuts: list[int]) -> None:
    limits = {"max_size": 60, "line_length": 1000, "header_fields": 2, "header_size": 40, "received": 1}
    verdicts = []
    for some_cuts in ([], cuts, list(range(200))):
        reader = reader_of(reject=True, **limits)
        assert feed(reader, octets + b"\r\n.\r\n", some_cuts) is not None
        verdicts.append(reader.reply and reader.reply.close)
    assert verdicts == verdicts[:1] * 3


def understood(octets: bytes) -> tuple[bytes, bytes, bool]:
    """Read ``octets`` one by one: the message, what follows it, and True if all ends are CRLF.

    As RFC 5321 does, but lone CR and LF end lines too, which lose one dot of two, and so do CRs before LF, up to 64.
    """
    left, _, behind = (b"\r\n" + octets).partition(b"\r\n.\r\n")
    left, kept, canonical = left + b"\r\n", b"", True
    while left:
        if end := re.match(rb"\r{1,64}\n", left):
            kept, left, canonical = kept + b"\r\n", left[end.end() :].removeprefix(b"."), canonical and end.end() == 2
        elif left.startswith((b"\r", b"\n")):
            kept, left, canonical = kept + b"\r\n", re.sub(rb"\A\.\.", b".", left[1:]), False
        else:
            kept, left = kept + left[:1], left[1:]
    return kept[2:], behind, canonical


def in_order(content: bytes) -> tuple[bytes, int]:
    """Read ``content`` line by line: what is kept of it, an empty line behind the header, and the header's size."""

    def is_field(line: bytes) -> bool:
        return re.match(rb"[^\0- :\x7f-\xff]+[ \t]*:", line) is not None

    mark = content.startswith(b"\xef\xbb\xbf")
    lines = re.findall(rb"[^\n]*\n", content[3 * mark :])
    mbox = next((at for at, line in enumerate(lines) if not re.match(rb">*From (?![ \t]*:)", line)), len(lines))
    if mbox <= 10 and mbox < len(lines) and (lines[mbox] == b"\r\n" or is_field(lines[mbox])):
        lines = lines[mbox:]
    else:
        lines = re.findall(rb"[^\n]*\n", content)
    header = b""
    while lines and (is_field(lines[0]) or (header and lines[0].startswith((b" ", b"\t")))):
        header += lines.pop(0)
    if not lines:
        return header, len(header)
    return header + (b"" if lines[0] == b"\r\n" else b"\r\n") + b"".join(lines), len(header)


@pytest.mark.parametrize("reject", [False, True])
@given(st.lists(st.one_of(WILD, st.sampled_from([b"\0", b"\t", b"\x0b\x0c\x1c\x85", b"\r\n\r\n"])), max_size=6), CUTS)
def test_each_octet_is_understood_as_if_it_came_alone(reject: bool, pieces: list[bytes], cuts: list[int]) -> None:
    reader, stream = reader_of(reject=reject), b"".join(pieces) + b"\r\n.\r\nQUIT\r\n"
    content, behind, canonical = understood(stream)
    assert feed(reader, stream, cuts) == behind
    faults = {NUL_IN_MESSAGE} if b"\0" in content else set()
    faults |= {BARE_LINE_END} if reject and not canonical else set()
    if faults:
        assert reader.reply in faults
    else:
        assert reader.reply is None
        assert (read(reader.message()), reader.header_size) == in_order(content)
        assert reader.eight_bit is not content.isascii()


@pytest.mark.parametrize(
    "piece",
    [
        b"\r\n",
        b"\r",
        b"\n",
        b"\n\r",
        b"\r\r\n",
        b"\r" * 64 + b"\n",
        b".",
        b"\n.",
        b"\r\n..",
        b"\r\n.\r.",
        b"\0",
        b"\xff",
        b"x" * 76 + b"\r\n",
    ],
)
@pytest.mark.parametrize("reject", [False, True])
def test_no_block_holds_up_the_loop(tmp_path: Path, piece: bytes, reject: bool) -> None:
    """Others wait while a block is looked at, no longer than four times a loop of 300,000 turns in Python takes.

    The loop takes 12 ms, and is measured between the blocks: a busy machine slows both down.
    """
    seconds, loops = [], []
    for _ in range(5):
        reader = reader_of(Spool(tmp_path), reject=reject)
        start = thread_time()
        reader.feed(b"\r\n" + piece * (BLOCK // len(piece)))
        seconds.append(thread_time() - start)
        reader.discard()
        start, turns = thread_time(), 0
        for number in range(300_000):
            turns += number
        loops.append(thread_time() - start)
    assert min(seconds) < 4 * min(loops)  # an expression for line ends took six times as long as the loop


@given(WILD)
def test_what_is_kept_has_canonical_line_ends_and_nothing_is_lost(octets: bytes) -> None:
    reader, stream = reader_of(), b"\r\n" + octets + b"\r\n.\r\n"
    assert feed(reader, stream) is not None
    content = read(reader.message())
    assert content.count(b"\r\n") == content.count(b"\r") == content.count(b"\n")
    before_the_end = (b"\r\n" + stream).split(b"\r\n.\r\n")[0]
    assert re.sub(rb"[\r\n.]", b"", content) == re.sub(rb"[\r\n.]", b"", before_the_end)


@given(st.lists(st.sampled_from([b".", b"..", b"line", b"", b". x", b"a: b"]), max_size=12))
def test_dot_stuffing_is_undone_exactly(lines: list[bytes]) -> None:
    content = b"\r\n" + b"".join(line + b"\r\n" for line in lines)
    reader = reader_of()
    assert feed(reader, sent(content)) == b""
    assert read(reader.message()) == content


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r", b"\n\r", b"\n\n"])
@pytest.mark.parametrize(
    ("line", "kept"),
    [(b"..button {", b".button {"), (b".button {", b".button {"), (b"...", b".."), (b"..", b"."), (b".", b".")],
)
@pytest.mark.parametrize("cuts", [[], range(200)])
def test_a_line_that_a_lone_cr_or_lf_begins_loses_one_dot_of_two(
    end: bytes, line: bytes, kept: bytes, cuts: list[int]
) -> None:
    reader = reader_of()
    assert feed(reader, b"Subject: x\r\n\r\none" + end + line + end + b"two\r\n.\r\n", list(cuts)) == b""
    ends = b"\r\n" * len(end)
    assert read(reader.message()) == b"Subject: x\r\n\r\none" + ends + kept + ends + b"two\r\n"


@pytest.mark.parametrize("cuts", [[], range(200)])
def test_a_line_that_crlf_begins_loses_one_dot_and_no_second_one(cuts: list[int]) -> None:
    reader = reader_of()
    assert feed(reader, b"\r\n...a\r\n..b\r\n.c\n..d\r\n.\r\n", list(cuts)) == b""
    assert read(reader.message()) == b"\r\n..a\r\n.b\r\nc\r\n.d\r\n"


@pytest.mark.parametrize("count", [2, 3, 4, 7, 32, 33, 63, 64])
@pytest.mark.parametrize("cuts", [[], range(400)])
def test_crs_directly_before_lf_are_one_line_end(count: int, cuts: list[int]) -> None:
    reader, end = reader_of(), b"\r" * count + b"\n"
    lines = [b"From: a@example.com", b"Subject: two", b" lines", b"", b"..body", b"end\r\n.\r\n"]
    assert feed(reader, end.join(lines), list(cuts)) == b""
    assert read(reader.message()) == b"From: a@example.com\r\nSubject: two\r\n lines\r\n\r\n.body\r\nend\r\n"


@pytest.mark.parametrize(("count", "lines"), [(65, 2), (66, 3), (100, 37), (1000, 937)])
@pytest.mark.parametrize("cuts", [[], range(2000)])
def test_crs_before_the_last_64_are_lone(count: int, lines: int, cuts: list[int]) -> None:
    reader = reader_of()
    assert feed(reader, b"\r\none" + b"\r" * count + b"\nx\r\n.\r\n", list(cuts)) == b""
    assert read(reader.message()) == b"\r\none" + b"\r\n" * lines + b"x\r\n"


def test_crs_without_end_are_not_kept_to_wait_for_their_lf() -> None:
    reader = reader_of()
    for _ in range(100):
        assert reader.feed(b"\r" * 1000) is None
    assert reader.message().size == 2 * (100 * 1000 - 64)


def test_several_crs_are_no_line_end_where_only_crlf_is() -> None:
    reader = reader_of(reject=True)
    assert feed(reader, b"Subject: x\r\r\n\r\n.\r\n") == b""
    assert reader.reply is BARE_LINE_END


def test_the_first_line_may_be_the_final_dot() -> None:
    reader = reader_of()
    assert reader.feed(b".\r\nQUIT\r\n") == b"QUIT\r\n"
    assert read(reader.message()) == b""


def test_octets_behind_the_end_are_given_back_and_not_kept() -> None:
    reader = reader_of()
    assert feed(reader, b"Subject: x\r\n\r\nbody\r\n.\r\nRSET\r\n.\r\n") == b"RSET\r\n.\r\n"
    assert read(reader.message()) == b"Subject: x\r\n\r\nbody\r\n"


# Smuggling: other line ends than CRLF.

SMUGGLED = b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: evil\r\n\r\nx"


@pytest.mark.parametrize("end", FALSE_ENDS.values(), ids=FALSE_ENDS)
@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("reject", [False, True])
def test_only_crlf_dot_crlf_ends_the_data(end: bytes, bytewise: bool, reject: bool) -> None:
    octets = HEADER + b"\r\nbody" + end + SMUGGLED + b"\r\n.\r\n"
    reader = reader_of(reject=reject)
    assert feed(reader, octets, list(range(len(octets))) if bytewise else None) == b""
    if b"\0" in end:
        assert reader.reply is NUL_IN_MESSAGE
    elif reject:
        assert reader.reply is BARE_LINE_END
        assert reader.reply.close
    else:
        assert reader.reply is None
        assert b"Subject: evil" in read(reader.message())
        stuffed = sent(read(reader.message()))
        assert stuffed.count(b"\r\n.\r\n") == 1
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)", stuffed)


@pytest.mark.parametrize("first", [b"x" * 200, b"a: b\r\n" * 4 + b"\r\n"])
def test_a_message_that_is_too_big_and_smuggles_too_closes_the_connection(first: bytes) -> None:
    reader = reader_of(reject=True, max_size=100, header_fields=3)
    reader.feed(first)
    assert reader.feed(b"\r\n\r\nmore\n.\r\n.\r\n") == b""
    assert reader.reply is BARE_LINE_END


# Limits.


@pytest.mark.parametrize(
    ("octets", "limits", "reply"),
    [
        (b"\r\n" + b"x" * 96, {"max_size": 100}, None),
        (b"\r\n" + b"x" * 97, {"max_size": 100}, TOO_BIG),
        (b"\r\n" + b"x" * 100, {"header_size": 100}, None),
        (b"a: " + b"x" * 95 + b"\r\n\r\n" + b"x" * 100, {"header_size": 100}, None),
        (b"a: " + b"x" * 96 + b"\r\n\r\n", {"header_size": 100}, HEADERS_TOO_BIG),
        (b"a: " + b"x" * 95, {"header_size": 100}, None),
        (b"a: " + b"x" * 96, {"header_size": 100}, HEADERS_TOO_BIG),
        (b"a: b\r\n" * 2 + b"a: b\r\n", {"header_fields": 3}, None),
        (b"a: b\r\n" * 4, {"header_fields": 3}, HEADERS_TOO_BIG),
        (b"a: b\r\n c: d\r\n" * 3, {"header_fields": 3}, None),
        (b"Received: x\r\n" * 2 + b"RECEIVED : x\r\n", {"received": 2}, MAIL_LOOP),
        (b"Received: x\r\n" * 2 + b"X: received\r\n received: x\r\nReceived-SPF: x\r\n", {"received": 2}, None),
        (b"Received: x\r\n" * 2 + b"\r\nReceived: x", {"received": 2}, None),
        (b"\r\n" + b"x" * 998, {"line_length": 1000}, None),
        (b"\r\n" + b"x" * 999, {"line_length": 1000}, TEXT_LINE_TOO_LONG),
        (b"\r\n" + b"x" * 999 + b"\r\n" + b"y" * 20, {"line_length": 1000}, TEXT_LINE_TOO_LONG),
        (b"\r\nshort\r\n" + b"x" * 2500, {"line_length": 1000}, TEXT_LINE_TOO_LONG),
    ],
)
@pytest.mark.parametrize("cut", [None, 1, 7, 64])
def test_a_limit_refuses_at_the_true_end_however_it_is_cut(
    octets: bytes, limits: dict[str, int], reply: Reply | None, cut: int | None
) -> None:
    spool = Spool(None)
    reader = reader_of(spool, **limits)
    cuts = list(range(0, len(octets), cut)) if cut else None
    assert feed(reader, octets + b"\r\n.\r\nNOOP\r\n", cuts) == b"NOOP\r\n"
    assert reader.reply is reply
    if reply is not None:
        assert spool.in_memory == 0


# The header block.


def test_the_headers_are_there_before_the_body() -> None:
    reader = reader_of()
    assert reader.feed(HEADER) is None
    assert not reader.headers_done
    assert reader.feed(b"\r\nbody") is None
    assert reader.headers_done
    assert reader.message().headers.get("subject") == "hello"


IN_ORDER = [
    HEADER,
    HEADER + b"\r\n",
    HEADER + b"\r\nbody\r\n\r\nFrom the body\r\n",
    b"From : obsolete@example.com\r\n\r\nbody\r\n",
    b">From : x\r\n\r\nbody\r\n",
    b"Subject:\r\n\t\r\n folded\r\nX-Empty:\r\n \r\n\r\nbody\r\n",
    b"a!#$%&'*+-/9^_`{|}~ \t : x\r\nSubject: gr\xc3\xbc\xc3\x9fe\r\n\r\nbody\r\n",
    b"\r\nSubject: body\r\n",
    b"",
]


@pytest.mark.parametrize("content", IN_ORDER)
@pytest.mark.parametrize("cuts", [[], range(200)])
def test_what_is_in_order_stays_octet_for_octet(content: bytes, cuts: list[int]) -> None:
    reader = reader_of()
    assert feed(reader, content + b".\r\n", list(cuts)) == b""
    assert reader.headers_done
    assert read(reader.message()) == content
    header, empty, _ = (b"\r\n" + content).partition(b"\r\n\r\n")
    assert reader.header_size == (len(header) if empty else len(content))


FIELDS = b"From: a@example.com\r\nSubject: x\r\n folded\r\n"


@pytest.mark.parametrize(
    ("sent", "header", "body"),
    [
        (
            b"Paper jam in tray 2.\r\nCall 12:30: ask for Bob.\r\n",
            b"",
            b"Paper jam in tray 2.\r\nCall 12:30: ask for Bob.\r\n",
        ),
        (
            FIELDS + b"This is text already.\r\n\r\nMore: text\r\n",
            FIELDS,
            b"This is text already.\r\n\r\nMore: text\r\n",
        ),
        (FIELDS + b"no-colon\r\n", FIELDS, b"no-colon\r\n"),
        (FIELDS + b": no name\r\nTo: b@example.org\r\n", FIELDS, b": no name\r\nTo: b@example.org\r\n"),
        (FIELDS + b"\xc3\x9cberschrift: x\r\n", FIELDS, b"\xc3\x9cberschrift: x\r\n"),
        (b" \tfolded\r\n" + FIELDS, b"", b" \tfolded\r\n" + FIELDS),
        (b"\tfolded\r\n\r\nbody\r\n", b"", b"\tfolded\r\n\r\nbody\r\n"),
        # The first lines of mbox files.
        (b"From a@example.com Tue Dec  1 10:00:00 2026\r\n" + FIELDS + b"\r\nbody\r\n", FIELDS, b"body\r\n"),
        (b">From a@example.com Tue Dec  1 10:00:00 2026\r\n" + FIELDS + b"\r\nbody\r\n", FIELDS, b"body\r\n"),
        (b"From a Tue\r\n>From b Tue\r\n" + FIELDS + b"text\r\n", FIELDS, b"text\r\n"),
        (b"From a Tue Dec  1 10:00:00 2026\r\n\r\nbody\r\n", b"", b"body\r\n"),
        (b"\xef\xbb\xbf" + FIELDS + b"\r\nbody\r\n", FIELDS, b"body\r\n"),
        (b"\xef\xbb\xbfText.\r\n" + FIELDS, b"", b"\xef\xbb\xbfText.\r\n" + FIELDS),
        (FIELDS + b"From here on it is text.\r\nTo: b\r\n", FIELDS, b"From here on it is text.\r\nTo: b\r\n"),
        (b"From all of us\r\na good year!\r\n", b"", b"From all of us\r\na good year!\r\n"),
        (b"From all of us\r\n", b"", b"From all of us\r\n"),
        (b"From a\r\n" * 11 + FIELDS, b"", b"From a\r\n" * 11 + FIELDS),
    ],
)
@pytest.mark.parametrize("cuts", [[], range(300)])
def test_the_header_block_ends_at_the_first_line_that_is_neither_a_field_nor_a_continuation(
    sent: bytes, header: bytes, body: bytes, cuts: list[int]
) -> None:
    reader = reader_of()
    assert feed(reader, sent + b".\r\n", list(cuts)) == b""
    assert reader.header_size == len(header)
    assert read(reader.message()) == header + b"\r\n" + body


def test_limits_of_headers_count_the_block_and_not_the_body() -> None:
    limits = {"header_size": 100, "header_fields": 3, "received": 2}
    for body in (b"x" * 200 + b"\r\n", b"a: b\r\n" * 4, b"Received: x\r\n" * 3):
        reader = reader_of(**limits)
        assert feed(reader, b"From: a\r\nthis is text\r\n" + body + b".\r\n") == b""
        assert (reader.reply, reader.header_size) == (None, 9)


@pytest.mark.parametrize("step", [1, 1000, 100_000])
def test_a_header_line_without_end_is_not_kept(step: int) -> None:
    reader = reader_of(line_length=2000)
    for _ in range(max(3, 3000 // step)):
        assert reader.feed(b"x" * step) is None
    assert reader.reply is TEXT_LINE_TOO_LONG
    assert reader.feed(b"\r\n.\r\n") == b""


@pytest.mark.parametrize("first", [b" \tfolded\r\n", b"\tfolded\r\n"])
def test_a_first_line_that_is_folded_cannot_become_part_of_a_field_of_ours(first: bytes) -> None:
    reader = reader_of()
    feed(reader, first + b"Subject: x\r\n\r\nbody\r\n.\r\n")
    message = reader.message()
    message.prepend("Authentication-Results", "mx.example.org; spf=fail")
    assert b"".join(message.blocks()).startswith(b"Authentication-Results: mx.example.org; spf=fail\r\n\r\n")
    assert list(message.headers) == [("Authentication-Results", "mx.example.org; spf=fail")]
